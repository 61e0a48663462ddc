/**
 * The types of chatrelay's tRPC 11 router: `createTRPCClient<AppRouter>`, or `SuperjsonAppRouter` where the server runs with
 * CHATRELAY_TRPC_TRANSFORMER=superjson. Needs the types of `@trpc/server`, nothing of it at run time.
 */
import type {
  TRPCBuiltRouter,
  TRPCDecorateCreateRouterOptions,
  TRPCDefaultErrorShape,
  TRPCMutationProcedure,
  TRPCQueryProcedure,
  TRPCSubscriptionProcedure,
} from "@trpc/server";

/** One event of an answer. `id` is what a subscription resumes after; `ts` is in milliseconds since the epoch. */
export type StreamEvent =
  | StatusEvent
  | DeltaEvent
  | ToolStartEvent
  | ToolResultEvent
  | CompleteEvent
  | ErrorEvent
  | FinalizedEvent;

interface BaseEvent {
  id: string;
  messageId: string;
  ts: number;
}

/** What the assistant is doing. */
export interface StatusEvent extends BaseEvent {
  type: "status";
  status: "thinking" | "tool_calling" | "building";
}

/** Text to append. */
export interface DeltaEvent extends BaseEvent {
  type: "delta";
  content: string;
  /** Of several that are told as one, the first one's id. */
  from?: string;
}

/** A tool call was decided. */
export interface ToolStartEvent extends BaseEvent {
  type: "tool_start";
  name: string;
  toolCallId: string;
  arguments?: unknown;
}

/** A tool call took effect, or was refused. */
export interface ToolResultEvent extends BaseEvent {
  type: "tool_result";
  name: string;
  toolCallId: string;
  success: boolean;
  jobId?: string;
  finalContent?: string;
  error?: string;
}

/** The whole text so far: it replaces what is shown, also where the answer is begun anew. */
export interface CompleteEvent extends BaseEvent {
  type: "complete";
  finalContent: string;
}

/** What went wrong. Without a `finalContent` the text stays as it is; `code` is `cancelled` for an answer that somebody stopped. */
export interface ErrorEvent extends BaseEvent {
  type: "error";
  error: string;
  code: string;
  retryable: boolean;
  finalContent?: string;
}

/** The last event of a subscription. `building`: a component job goes on without it. `pending` is never sent. */
export interface FinalizedEvent extends BaseEvent {
  type: "finalized";
  status: "success" | "error" | "building" | "pending";
  jobId?: string;
  usage?: Usage;
  timing?: Timing;
}

export interface Usage {
  promptTokens: number;
  completionTokens: number;
  totalTokens: number;
}

export interface Timing {
  queuedMs: number | null;
  firstTokenMs: number | null;
  totalMs: number;
  /* Where the last worker's time went; what did not happen is left out. */
  contextMs?: number;
  connectMs?: number;
  firstAppendMs?: number;
  firstByteMs?: number;
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

/** One row, as `GET /v1/messages/{id}` answers it. Times are RFC 3339 texts. */
export interface Message {
  id: string;
  projectId: string;
  role: "user" | "assistant";
  author: string | null;
  kind: "message" | "status" | "text" | "tool_result" | "error";
  status: "pending" | "building" | "success" | "error" | "cancelled";
  content: string;
  error: { code: string; detail: string; retryable: boolean } | null;
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

interface Procedure<Input, Output> {
  input: Input;
  output: Output;
  meta: object;
  errorShape: TRPCDefaultErrorShape;
}

interface RootTypes<Transformer extends boolean> {
  ctx: object;
  meta: object;
  errorShape: TRPCDefaultErrorShape;
  transformer: Transformer;
}

type ChatProcedures = TRPCDecorateCreateRouterOptions<{
  /** Send a message: its answer can be followed by `streamResponse`. */
  initiateChat: TRPCMutationProcedure<
    Procedure<{ projectId: string; message: string }, { assistantMessageId: string }>
  >;
  /** Send a message and wait for its answer, for two minutes at most: then `assistantMessage` is not final yet. */
  sendMessage: TRPCMutationProcedure<
    Procedure<{ projectId: string; message: string }, { userMessage: Message; assistantMessage: Message }>
  >;
  /** A page of a project's messages, newest first; `nextCursor` is the next page's `before`. */
  getMessages: TRPCQueryProcedure<
    Procedure<
      { projectId: string; limit?: number; before?: string },
      { items: Message[]; nextCursor: string | null }
    >
  >;
  /** The events of one answer, until the first `finalized`. */
  streamResponse: TRPCSubscriptionProcedure<
    Procedure<
      { assistantMessageId: string; projectId: string; lastEventId?: string },
      AsyncIterable<{ id: string; data: StreamEvent }, void, any>
    >
  >;
}>;

type Router<Transformer extends boolean> = TRPCBuiltRouter<
  RootTypes<Transformer>,
  TRPCDecorateCreateRouterOptions<{
    chat: TRPCBuiltRouter<RootTypes<Transformer>, ChatProcedures>;
  }>
>;

export type AppRouter = Router<false>;
export type SuperjsonAppRouter = Router<true>;
