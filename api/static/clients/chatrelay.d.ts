/** Types of chatrelay.js, the client of chatrelay for browsers and Node.js. */

export type MessageStatus = "pending" | "building" | "success" | "error" | "cancelled";

export interface Usage {
  promptTokens: number;
  completionTokens: number;
  totalTokens: number;
}

export interface Timing {
  queuedMs: number | null;
  firstTokenMs: number | null;
  totalMs: number | null;
  contextMs?: number;
  connectMs?: number;
  firstByteMs?: number;
  firstAppendMs?: number;
  toolsMs?: number;
  rounds?: number;
  commitMs?: number;
}

export interface ToolCall {
  toolCallId: string;
  name: string;
  arguments?: unknown;
  state: "started" | "succeeded" | "failed";
  finalContent?: string;
  error?: string;
  jobId?: string;
  version?: number;
}

export interface MessageError {
  code: string;
  detail: string;
  retryable: boolean;
}

export interface Message {
  id: string;
  projectId: string;
  role: "user" | "assistant";
  author: string | null;
  kind: "message" | "status" | "text" | "tool_result" | "error";
  status: MessageStatus;
  content: string;
  error: MessageError | null;
  attempt: number;
  jobId: string | null;
  toolCalls: ToolCall[];
  model: string | null;
  usage: Usage | null;
  timing: Timing | null;
  replyTo: string | null;
  queueNumber: number | null;
  createdAt: string;
  updatedAt: string;
}

export interface Submitted {
  userMessage: Message;
  assistantMessage: Message;
  socketUrl: string;
  eventsUrl: string;
}

export interface Project {
  id: string;
  name: string;
  document: unknown;
  version: number;
  schema: unknown;
  role: "owner" | "editor" | "viewer";
  createdAt: string;
  updatedAt: string;
}

export interface Job {
  id: string;
  projectId: string;
  messageId: string;
  name: string;
  effectDescription: string;
  status: "pending" | "building" | "success" | "error" | "cancelled";
  phase: "writing" | "checking" | "bundling" | null;
  tries: number;
  error: string | null;
  createdAt: string;
  updatedAt: string;
}

export interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

interface Event<Type extends string> {
  type: Type;
  /** `<attempt>-<n>` */
  id: string;
  messageId: string;
  /** Milliseconds since the epoch. */
  ts: number;
}

export type Status = Event<"status"> & { status: "thinking" | "tool_calling" | "building" };
export type Delta = Event<"delta"> & { content: string; from?: string };
export type ToolStart = Event<"tool_start"> & { name: string; toolCallId: string; arguments: unknown };
export type ToolResult = Event<"tool_result"> & {
  name: string;
  toolCallId: string;
  success: boolean;
  jobId?: string;
  finalContent?: string;
  error?: string;
};
export type Complete = Event<"complete"> & { finalContent: string };
export type ErrorEvent = Event<"error"> & { error: string; code: string; retryable: boolean; finalContent?: string };
export type Finalized = Event<"finalized"> & {
  status: "success" | "error" | "building" | "cancelled";
  jobId?: string;
  usage?: Usage;
  timing?: Timing;
};
export type Snapshot = Event<"snapshot"> & {
  content: string;
  status: MessageStatus;
  toolCalls: ToolCall[];
  reason: "attempt" | "restored" | "compacted";
};

/** What happens to one message. A server that is newer may tell types that are not here: ignore them. */
export type StreamEvent = Status | Delta | ToolStart | ToolResult | Complete | ErrorEvent | Finalized | Snapshot;

export interface Ready {
  type: "ready";
  version: number;
  newestMessageId: string | null;
}

export interface MessageNotice {
  type: "message";
  message: Message;
}

export interface DocumentNotice {
  type: "document";
  version: number;
  operations: unknown[];
  messageId?: string;
}

export interface JobNotice {
  type: "job";
  jobId: string;
  messageId: string;
  name: string;
  status: Job["status"];
  phase: Job["phase"];
  try: number;
}

export type ProjectEvent = StreamEvent | MessageNotice | DocumentNotice | JobNotice;

/** The server refused, or failed. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string | null;
  readonly detail: string;
  readonly errors: { path: string; message: string }[];
  readonly index: number | null;
  readonly retryAfterS: number | null;
  get isTransient(): boolean;
}

/** No answer came; what became of the call is unknown. */
export class NoAnswer extends Error {
  readonly detail: string;
  get isTransient(): true;
}

/** The server closed a socket for good. */
export class Refused extends Error {
  readonly closeCode: number;
  readonly detail: string;
}

/** The message is final, and no socket passed that could have told its events. */
export class NoSocket extends Error {
  readonly row: Message;
  readonly detail: string;
}

export type Refusal = ApiError | Refused;

export interface Handlers<E> {
  onEvent(event: E): void;
  onConnection?(isConnected: boolean): void;
  onRefused?(error: Refusal): void;
}

/** Something that is followed; `done` is settled once that is over, after `stop()` with null. */
export interface Line<T> {
  readonly done: Promise<T | null>;
  stop(): void;
}

/** An iteration ends where `signal` is aborted. Where `mostWaiting` events are not taken yet, the rest comes later. */
export interface Iterating {
  signal?: AbortSignal | null;
  mostWaiting?: number;
}

export class ChatRelay {
  constructor(options: { token: string; origin?: string; WebSocket?: unknown });

  me(): Promise<{ user: string; scopes: string[] }>;
  projects(before?: string | null): Promise<Page<Project>>;
  project(projectId: string): Promise<Project>;
  createProject(fields: { name: string; template?: "video"; document?: unknown; schema?: unknown }): Promise<Project>;
  changeProject(projectId: string, fields: { name?: string; schema?: unknown }): Promise<Project>;
  deleteProject(projectId: string): Promise<null>;
  patchDocument(projectId: string, operations: unknown[], version: number): Promise<Project>;
  messages(projectId: string, page: { limit?: number; before?: string | null }): Promise<Page<Message>>;
  message(messageId: string): Promise<Message>;
  job(jobId: string): Promise<Job>;
  jobSource(jobId: string): Promise<string>;
  ticket(path: string): Promise<string>;

  submit(
    projectId: string,
    content: string,
    options?: {
      key?: string;
      model?: string | null;
      onBusy?: "queue" | "parallel" | "reject" | "interrupt" | null;
      onTryAgain?(error: ApiError | NoAnswer): void;
    },
  ): Promise<Submitted>;
  cancel(messageId: string): Promise<Message>;
  retry(messageId: string): Promise<Message>;

  events(messageId: string, options?: Iterating & { after?: string | null }): AsyncGenerator<StreamEvent, void>;
  projectEvents(projectId: string, options?: Iterating): AsyncGenerator<Ready | ProjectEvent, void>;
  answer(messageId: string, options?: { signal?: AbortSignal | null }): Promise<Message>;
  follow(messageId: string, handlers: Handlers<StreamEvent> & { after?: string | null }): Line<Message>;
  watch(
    projectId: string,
    handlers: Handlers<ProjectEvent> & { onReady(ready: Ready): void; onFailing?(): void },
  ): Line<never>;
}

/** What a reader shows of a message. */
export interface Shown {
  position: string | null;
  content: string;
  status: MessageStatus;
  activity: string | null;
  toolCalls: ToolCall[];
  error: MessageError | null;
  usage: Usage | null;
  timing: Timing | null;
  jobId?: string | null;
}

export const FINAL_STATUSES: ReadonlySet<MessageStatus>;
export const CLOSE_CODES: Readonly<Record<number, { meaning: string; reconnect: boolean }>>;
export function start(): Shown;
export function fromRow(row: Message): Message & Shown;
export function fold<S extends Shown>(state: S, event: StreamEvent): S;
export function resumeAfter(state: Shown): string | null;
export function compareEventIds(left: string, right: string): number;
export function newKey(): string;
export function backoffMs(failures: number, random?: () => number): number;
