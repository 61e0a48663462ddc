/**
 * A client of chatrelay for browsers and Node.js, in one file without dependencies: the calls, and following a message, or
 * all of a project, over a WebSocket without losing an event or showing one twice. Its types are in chatrelay.d.ts.
 *
 *     const client = new ChatRelay({ token, origin: "http://127.0.0.1:8000" });
 *     const { assistantMessage } = await client.submit(projectId, "Hello");
 *     let message = fromRow(assistantMessage);
 *     for await (const event of client.events(assistantMessage.id)) message = fold(message, event);
 *
 * Sockets are opened with tickets, since a browser can set no header on them. Node.js before 22 has no WebSocket:
 * give `new ChatRelay({ …, WebSocket })` the one of the package ws.
 */

/** The close codes that a reader may see, and whether it should come back. One that is not here: it should. */
export const CLOSE_CODES = {
  1000: { meaning: "finished", reconnect: false },
  1002: { meaning: "not a WebSocket frame", reconnect: false },
  1007: { meaning: "text that is not UTF-8", reconnect: false },
  1008: { meaning: "too many frames", reconnect: false },
  1011: { meaning: "something went wrong on the server", reconnect: true },
  1012: { meaning: "the server restarts", reconnect: true },
  4008: { meaning: "too slow", reconnect: true },
  4401: { meaning: "no valid token in time", reconnect: false },
  4403: { meaning: "access withdrawn", reconnect: false },
};

const BACKOFF_FIRST_MS = 250;
const BACKOFF_MOST_MS = 10_000;
const SUBMIT_TRIES = 6;
/** Sockets that failed in a row after which the row is asked: it may be final, or gone, and sockets may not pass at all. */
const ROW_AFTER_FAILURES = 3;
/** A socket that was open for so long did not fail at once. */
const STEADY_AFTER_MS = 5000;
/** What a project's socket tells beside the events of its messages. */
const PROJECT_EVENTS = new Set(["message", "document", "job"]);
/** Silence on a socket after which a ping is sent; how long its answer may take before the socket is given up. */
const PING_AFTER_MS = 15_000;
const PONG_WITHIN_MS = 10_000;
const OPEN = 1; // WebSocket.OPEN
/** Messages of a project whose positions are remembered. */
const MOST_KEPT = 1000;

/** A new idempotency key. `randomUUID` exists only on https and localhost; elsewhere the same is made by hand. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** How long to wait before try number `failures` + 1: exponential, between half and all of it, so that clients spread. */
export function backoffMs(failures, random = Math.random) {
  const longest = Math.min(BACKOFF_MOST_MS, BACKOFF_FIRST_MS * 2 ** Math.max(0, failures - 1));
  return longest * (0.5 + random() / 2);
}

// --- a user's calls --------------------------------------------------------------------------------------------------

export class ChatRelay {
  /** `origin` is where the API is, the page's own by default; `WebSocket` takes the place of the global one. */
  constructor({ token, origin = location.origin, WebSocket = globalThis.WebSocket }) {
    this.token = token;
    this.origin = origin;
    this.WebSocket = WebSocket;
  }

  request(method, path, options = {}) {
    return request(method, this.origin + path, { token: this.token, ...options });
  }

  /** Up to 100 projects; `nextCursor` tells whether there are more. */
  projects(before = null) {
    return this.request("GET", `/v1/projects${query({ limit: 100, before })}`);
  }

  project(projectId) {
    return this.request("GET", `/v1/projects/${projectId}`);
  }

  /** `template`, or `document` and `schema`, or neither. */
  createProject({ name, template, document, schema }) {
    return this.request("POST", "/v1/projects", { body: { name, template, document, schema } });
  }

  /** Changes what is given; a schema of null takes it away. */
  changeProject(projectId, { name, schema }) {
    return this.request("PATCH", `/v1/projects/${projectId}`, { body: { name, schema } });
  }

  deleteProject(projectId) {
    return this.request("DELETE", `/v1/projects/${projectId}`);
  }

  /** Messages, newest first, and the cursor of the next page: `{items, nextCursor}`. */
  messages(projectId, { limit, before = null }) {
    return this.request("GET", `/v1/projects/${projectId}/messages${query({ limit, before })}`);
  }

  message(messageId) {
    return this.request("GET", `/v1/messages/${messageId}`);
  }

  /** Whose token this is: `{user, scopes}`. */
  me() {
    return this.request("GET", "/v1/me");
  }

  /**
   * Sends a message: `{userMessage, assistantMessage, socketUrl, eventsUrl}`. Where the outcome is unknown (no answer,
   * a 5xx) it is repeated under the same key, which never makes a second message; after the last try the exception of
   * that one is thrown, and calling again with the same key and content is still safe. A refusal is thrown at once.
   * `onBusy` says what becomes of it while an answer is unfinished: "queue", "parallel", "reject" or "interrupt".
   */
  async submit(projectId, content, { key = newKey(), model = null, onBusy = null, onTryAgain = () => {} } = {}) {
    const body = { content };
    if (model) body.model = model;
    if (onBusy) body.onBusy = onBusy;
    const headers = { "Idempotency-Key": key };
    for (let failures = 1; ; failures += 1) {
      try {
        return await this.request("POST", `/v1/projects/${projectId}/messages`, { body, headers });
      } catch (error) {
        const unknown = error instanceof NoAnswer || (error instanceof ApiError && error.status >= 500);
        if (!unknown || failures === SUBMIT_TRIES) throw error;
        onTryAgain(error);
        await sleep(backoffMs(failures + 1));
      }
    }
  }

  cancel(messageId) {
    return this.request("POST", `/v1/messages/${messageId}/cancel`);
  }

  retry(messageId) {
    return this.request("POST", `/v1/messages/${messageId}/retry`);
  }

  /** A component job. */
  job(jobId) {
    return this.request("GET", `/v1/jobs/${jobId}`);
  }

  /** A built component's TSX. */
  jobSource(jobId) {
    return this.request("GET", `/v1/jobs/${jobId}/source`, { asText: true });
  }

  /** Patches the document (RFC 6902) where it still is `version`, and throws an ApiError of the status 412 where not. */
  patchDocument(projectId, operations, version) {
    const headers = { "Content-Type": "application/json-patch+json", "If-Match": `"${version}"` };
    return this.request("PATCH", `/v1/projects/${projectId}/document`, { body: operations, headers });
  }

  /** A ticket for this path: for one socket within half a minute, for a preview within ten minutes. */
  async ticket(path) {
    const { ticket } = await this.request("POST", "/v1/tickets", { body: { path } });
    return ticket;
  }

  /**
   * Follows one message from after the event `after` (null: the newest attempt's start) until it is final.
   *
   * `onEvent` gets every event once, ids rising and without a gap inside an attempt; after a lost connection it goes on
   * where it stopped. `onConnection` gets true when events can arrive and false when they can't. `done` resolves to the
   * final row; to null after `stop()`, or where the server will not have this reader any more: then `onRefused` was
   * called with the reason, if there was one.
   */
  follow(messageId, { after = null, onEvent, onConnection = () => {}, onRefused = () => {} }) {
    const following = new Following(this, messageId, { after, onEvent, onConnection, onRefused });
    following.done = following.run();
    return following;
  }

  /**
   * Watches a project until `stop()`: its messages' events, and `message`, `document` and `job`.
   *
   * `onReady({version, newestMessageId})` comes first, and again with each new connection: what a GET shows after it,
   * together with what `onEvent` gets from then on, is complete. A new connection begins anew with the newest attempt of
   * each unfinished message: fold ignores what it knows. `onFailing()` is called after each try, once several have failed
   * in a row: no socket may pass here at all, and a GET may. The others are as in `follow`.
   */
  watch(projectId, { onReady, onEvent, onConnection = () => {}, onRefused = () => {}, onFailing = () => {} }) {
    const watching = new Watching(this, projectId, { onReady, onEvent, onConnection, onRefused, onFailing });
    watching.done = watching.run();
    return watching;
  }

  /**
   * The events of one message, to be iterated over until it is final, or `signal` is aborted, or the loop is left.
   *
   * As with `follow`, each once and without a gap. Where `mostWaiting` are not taken yet, the socket is closed, and opened
   * again behind them once they are. Throws an ApiError or a Refused where the server will not have this
   * reader, a NoSocket where the message is final and no socket has told its end.
   */
  async *events(messageId, { after = null, signal = null, mostWaiting = 1000 } = {}) {
    const waiting = new Waiting(mostWaiting);
    const following = new Following(this, messageId, { after, ...waiting.handlers() });
    let last = null;
    for await (const event of waiting.of(following, signal)) {
      last = event;
      yield event;
    }
    const row = following.row;
    const isTold = row === null || after !== null || (last?.type === "finalized" && FINAL_STATUSES.has(last.status));
    if (!isTold) throw new NoSocket(row);
  }

  /**
   * Everything that happens in a project, to be iterated over: `ready` first, and again with each new connection, then the
   * events of its messages, `message`, `document` and `job`. What is told again after a lost connection is left out: each
   * event comes once, and none is missing between two of an attempt.
   */
  async *projectEvents(projectId, { signal = null, mostWaiting = 1000 } = {}) {
    const waiting = new Waiting(mostWaiting);
    const once = new EachOnce();
    const onReady = (ready) => {
      once.connected();
      waiting.push(ready);
    };
    const onEvent = (event) => {
      const { isNext, told } = once.take(event);
      if (told !== null) waiting.push(told);
      return isNext;
    };
    yield* waiting.of(new Watching(this, projectId, { ...waiting.handlers(), onReady, onEvent }), signal);
  }

  /** Waits until a message is final: its row. */
  async answer(messageId, { signal = null } = {}) {
    let refused = null;
    const following = new Following(this, messageId, { onEvent() {}, onRefused: (error) => (refused = error) });
    signal?.addEventListener("abort", () => following.stop());
    const row = await following.run();
    if (refused) throw refused;
    signal?.throwIfAborted();
    return row;
  }
}

// --- one call --------------------------------------------------------------------------------------------------------

const DEADLINE_MS = 20_000;

/** The server refused, or failed. `detail` is safe to show; `code` is for programs. */
export class ApiError extends Error {
  constructor({ status, code, title, detail, errors, index, retryAfterS }) {
    super(detail || title || `HTTP ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.code = code ?? null;
    this.detail = this.message;
    /** Places that are wrong, `{path, message}`; and the failing operation's index, of a patch. */
    this.errors = errors ?? [];
    this.index = index ?? null;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same call may well succeed a little later. */
  get isTransient() {
    return this.status >= 500 || this.status === 408 || this.status === 429;
  }
}

/** No answer came: the network is down, the server is, or the deadline passed. What became of the call is unknown. */
export class NoAnswer extends Error {
  constructor(cause) {
    super("The server could not be reached.", { cause });
    this.name = "NoAnswer";
    this.detail = this.message;
  }

  get isTransient() {
    return true;
  }
}

/** The server closed a socket for good: `closeCode` says why (4403: access withdrawn). */
export class Refused extends Error {
  constructor(closeCode) {
    super(CLOSE_CODES[closeCode].meaning);
    this.name = "Refused";
    this.closeCode = closeCode;
    this.detail = this.message;
  }
}

/** The message is final, as `row` says, and no socket passed that could have told its events. */
export class NoSocket extends Error {
  constructor(row) {
    super("No WebSocket reaches the server.");
    this.name = "NoSocket";
    this.row = row;
    this.detail = this.message;
  }
}

/** Sends one request; the parsed answer, null where it has no body, its text with `asText`. Throws ApiError or NoAnswer. */
export async function request(method, url, { token, body, headers, asText = false } = {}) {
  const options = { method, headers: { Accept: "application/json", ...headers } };
  options.signal = AbortSignal.timeout(DEADLINE_MS);
  if (token) options.headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    options.headers["Content-Type"] ??= "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  let text;
  try {
    response = await fetch(url, options);
    text = await response.text();
  } catch (cause) {
    throw new NoAnswer(cause);
  }
  if (response.ok && asText) return text;
  const parsed = parseJson(text);
  if (response.ok) return parsed;
  const problem = parsed !== null && typeof parsed === "object" ? parsed : {};
  throw new ApiError({
    status: response.status,
    code: problem.code,
    title: problem.title,
    detail: problem.detail,
    errors: problem.errors,
    index: problem.index,
    retryAfterS: Number(response.headers.get("Retry-After")) || null,
  });
}

function parseJson(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

// --- event ids -------------------------------------------------------------------------------------------------------

/** The id's `[attempt, n]`; throws a RangeError where it is not an id. */
export function parseEventId(id) {
  const match = /^(\d{1,15})-(\d{1,16})$/.exec(id);
  if (!match) throw new RangeError(`not an event id: ${id}`);
  return [Number(match[1]), Number(match[2])];
}

export function attemptOf(id) {
  return parseEventId(id)[0];
}

/** Below zero where `left` comes before `right`, zero where they are the same event, above zero where it comes after. */
export function compareEventIds(left, right) {
  const [leftAttempt, leftN] = parseEventId(left);
  const [rightAttempt, rightN] = parseEventId(right);
  return leftAttempt - rightAttempt || leftN - rightN;
}

/** A position after every event of the attempt, and before every event of the next. */
export function endOfAttempt(attempt) {
  return `${attempt}-${Number.MAX_SAFE_INTEGER}`;
}

/** Whether the position is one that `endOfAttempt` made, and no event's id. */
export function isEndOfAttempt(position) {
  return parseEventId(position)[1] === Number.MAX_SAFE_INTEGER;
}

/**
 * Whether a reader at `position` (null: at the start) may take the event as the next one: it is newer, and either a
 * snapshot, the first event of all, or the very next one of its attempt. False for what would leave a gap and for a
 * merged delta of which a part was shown already.
 */
export function isNext(position, event) {
  if (event.type === "snapshot") return position === null || compareEventIds(event.id, position) > 0;
  const [attempt, n] = parseEventId(event.from ?? event.id);
  if (position === null) return n === 0;
  const [lastAttempt, lastN] = parseEventId(position);
  return attempt === lastAttempt && n === lastN + 1;
}

// --- what a reader shows ---------------------------------------------------------------------------------------------

/** The statuses in which a message is not written again until somebody retries it. */
export const FINAL_STATUSES = new Set(["success", "error", "cancelled"]);

/** Somebody holds the message then, and goes on with it. */
const ACTIVITY_AFTER_SNAPSHOT = { pending: "thinking", building: "building" };

/** A message before its first event. */
export function start() {
  return {
    position: null,
    content: "",
    status: "pending",
    activity: null,
    toolCalls: [],
    error: null,
    usage: null,
    timing: null,
  };
}

/**
 * A message as its row tells it. A final row stands after every event of its attempt; of an unfinished one nothing is
 * known of its events: it is shown as it is until the first event comes, which starts anew from empty text.
 */
export function fromRow(row) {
  return {
    ...row,
    position: FINAL_STATUSES.has(row.status) ? endOfAttempt(row.attempt ?? 0) : null,
    activity: row.status === "building" ? "building" : null,
    content: row.content ?? "",
    toolCalls: row.toolCalls ?? [],
    error: row.error ?? null,
    usage: row.usage ?? null,
    timing: row.timing ?? null,
  };
}

/** The event id to go on after, or null where the reader must begin at the newest attempt's start. */
export function resumeAfter(state) {
  return state.position === null || isEndOfAttempt(state.position) ? null : state.position;
}

/** The state after the event; the very same state where the event is at or before its position. */
export function fold(state, event) {
  if (state.position !== null && compareEventIds(event.id, state.position) <= 0) return state;
  const before = state.position === null ? { ...state, content: "", toolCalls: [], error: null } : state;
  return { ...before, ...change(before, event), position: event.id };
}

/** The fields that the event changes: none for a type that this reader does not know. */
function change(state, event) {
  switch (event.type) {
    case "status":
      return { activity: event.status, status: event.status === "building" ? "building" : state.status };
    case "delta":
      return { activity: "writing", content: state.content + event.content };
    case "tool_start":
      return {
        activity: "tool_calling",
        toolCalls: upsert(state.toolCalls, {
          toolCallId: event.toolCallId,
          name: event.name,
          arguments: event.arguments,
          state: "started",
        }),
      };
    case "tool_result": {
      const toolCalls = upsert(state.toolCalls, resultOf(event));
      const running = toolCalls.some((call) => call.state === "started");
      return { activity: running ? "tool_calling" : "thinking", toolCalls };
    }
    case "complete":
      return { content: event.finalContent };
    case "error":
      return {
        content: event.finalContent ?? state.content,
        error: { code: event.code, detail: event.error, retryable: event.retryable },
      };
    case "finalized":
      return {
        status: event.status,
        activity: event.status === "building" ? "building" : null,
        usage: event.usage ?? state.usage,
        timing: event.timing ?? state.timing,
        jobId: event.jobId ?? state.jobId ?? null,
      };
    case "snapshot":
      return {
        content: event.content,
        status: event.status,
        activity: ACTIVITY_AFTER_SNAPSHOT[event.status] ?? null,
        toolCalls: event.toolCalls,
        error: null,
      };
    default:
      return {};
  }
}

function resultOf(event) {
  const call = { toolCallId: event.toolCallId, name: event.name, state: event.success ? "succeeded" : "failed" };
  for (const field of ["finalContent", "error", "jobId"]) if (event[field] != null) call[field] = event[field];
  return call;
}

/** The calls with this one's fields put over those of the same toolCallId, or with it at the end. */
function upsert(calls, call) {
  if (!calls.some((known) => known.toolCallId === call.toolCallId)) return [...calls, call];
  return calls.map((known) => (known.toolCallId === call.toolCallId ? { ...known, ...call } : known));
}

// --- streams ---------------------------------------------------------------------------------------------------------

/**
 * One socket after the other on a path, until the server says that it is enough, or `stop()`. Who extends it says what is
 * asked for (`parameters`), what becomes of a frame (`take`; false ends the socket) and of a socket's end (`afterSocket`).
 */
export class Line {
  constructor(client, path, { onConnection = () => {}, onRefused = () => {}, isFull = () => false, room = () => {} }) {
    this.client = client;
    this.path = path;
    this.onConnection = onConnection;
    this.onRefused = onRefused;
    this.isFull = isFull;
    this.room = room;
    this.stopping = new AbortController();
    this.failures = 0;
  }

  /** Ends it: no more callbacks, no more connections. */
  stop() {
    this.stopping.abort();
  }

  async run() {
    while (!this.stopping.signal.aborted) {
      await this.room();
      if (this.stopping.signal.aborted) return null;
      try {
        const closeCode = await this.readOneSocket();
        if (this.stopping.signal.aborted) return null;
        if (closeCode !== 1000) this.onConnection(false);
        if (CLOSE_CODES[closeCode]?.reconnect === false && closeCode !== 1000) {
          this.onRefused(new Refused(closeCode));
          return null;
        }
        const result = await this.afterSocket(closeCode);
        if (result) return result;
      } catch (error) {
        if (this.stopping.signal.aborted) return null;
        this.onConnection(false);
        if (!error.isTransient) {
          this.onRefused(error);
          return null;
        }
      }
      this.failures += 1;
      await sleep(backoffMs(this.failures), this.stopping.signal);
    }
    return null;
  }

  /** Opens one socket and hands on what comes; the code that it was closed with, 1006 where it broke. */
  async readOneSocket() {
    if (!this.client.WebSocket) throw new TypeError("There is no WebSocket here: give the client one.");
    const ticket = await this.client.ticket(this.path);
    const url = new URL(this.path + query({ ...this.parameters(), ticket }), this.client.origin);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.stopping.signal.aborted) return 1000;
    const socket = new this.client.WebSocket(url);
    return new Promise((resolve, reject) => {
      const watchdog = new Watchdog(
        () => socket.readyState === OPEN && socket.send('{"type":"ping"}'),
        () => end(1006),
      );
      const onStop = () => end(1000);
      let openedAtMs = Infinity;
      const end = (code) => {
        watchdog.stop();
        this.stopping.signal.removeEventListener("abort", onStop);
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close();
        if (performance.now() - openedAtMs > STEADY_AFTER_MS) this.failures = 0;
        resolve(code);
      };
      this.stopping.signal.addEventListener("abort", onStop);
      socket.onopen = () => {
        openedAtMs = performance.now();
        this.onConnection(true);
      };
      socket.onclose = (close) => end(close.code);
      socket.onmessage = (frame) => {
        watchdog.alive();
        try {
          if (!this.take(JSON.parse(frame.data)) || this.isFull()) end(1006);
        } catch (error) {
          end(1006);
          reject(error);
        }
      };
    });
  }
}

class Following extends Line {
  constructor(client, messageId, { after = null, onEvent, ...handlers }) {
    super(client, `/v1/messages/${messageId}/socket`, handlers);
    this.row = null;
    this.messageId = messageId;
    this.position = after;
    this.onEvent = onEvent;
  }

  parameters() {
    return { after: this.position };
  }

  async afterSocket(closeCode) {
    if (closeCode !== 1000 && this.failures < ROW_AFTER_FAILURES) return null;
    const row = await this.client.message(this.messageId);
    if (FINAL_STATUSES.has(row.status)) this.row = row;
    return this.row;
  }

  /** Hands the event on where it is the next one; false where events before it are missing. */
  take(event) {
    if (event.id === undefined) return true; // a pong, or an answer to a frame
    if (isNext(this.position, event)) {
      this.position = event.id;
      this.failures = 0;
      this.onEvent(event);
      return true;
    }
    return this.position !== null && compareEventIds(event.id, this.position) <= 0;
  }
}

class Watching extends Line {
  constructor(client, projectId, { onReady, onEvent, onFailing = () => {}, ...handlers }) {
    super(client, `/v1/projects/${projectId}/socket`, handlers);
    this.onReady = onReady;
    this.onEvent = onEvent;
    this.onFailing = onFailing;
  }

  parameters() {
    return {};
  }

  async afterSocket() {
    if (this.failures >= ROW_AFTER_FAILURES) this.onFailing();
    return null;
  }

  take(frame) {
    if (frame.type === "ready") {
      this.failures = 0;
      this.onReady(frame);
    } else if (frame.id !== undefined || PROJECT_EVENTS.has(frame.type)) return this.onEvent(frame) !== false;
    return true;
  }
}

/** What was told and is not taken yet, between a line and the loop that iterates over it. */
class Waiting {
  #items = [];
  #most;
  #over = false;
  #error = null;
  #wake = () => {};
  #drained = () => {};

  constructor(most) {
    this.#most = most;
  }

  /** A socket cannot be told to wait: it is closed where too much waits, and opened again once all of that is taken. */
  handlers() {
    return {
      onEvent: (event) => this.push(event),
      onRefused: (error) => this.end(error),
      isFull: () => this.#items.length >= this.#most,
      room: () => (this.#items.length ? new Promise((resolve) => (this.#drained = resolve)) : null),
    };
  }

  push(item) {
    this.#items.push(item);
    this.#wake();
  }

  end(error = null) {
    this.#over = true;
    this.#error ??= error;
    this.#wake();
  }

  /** What the line tells, until it ends; it is stopped where the loop is left before. */
  async *of(line, signal) {
    const stop = () => {
      line.stop();
      this.end();
      this.#drained();
    };
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
    line.run().then(
      () => this.end(),
      (error) => this.end(error),
    );
    try {
      for (;;) {
        while (this.#items.length) yield this.#items.shift();
        this.#drained();
        if (this.#over) break;
        await new Promise((resolve) => (this.#wake = resolve));
      }
      if (this.#error) throw this.#error;
    } finally {
      signal?.removeEventListener("abort", stop);
      stop();
    }
  }
}

/** Leaves out of a project's events what was told on an earlier connection. It keeps what it has told of each message. */
class EachOnce {
  #told = new Map();
  #retold = new Map();

  /** A new connection, which tells the unfinished messages anew. */
  connected() {
    this.#retold.clear();
  }

  /** `told` is what is new of it, or null; `isNext` false where events before it are missing. */
  take(event) {
    if (event.id === undefined) return { isNext: true, told: event };
    const told = this.#told.get(event.messageId) ?? start();
    const retold = this.#retold.get(event.messageId) ?? start();
    if (!isNext(retold.position, event)) return { isNext: false, told: null };
    const now = fold(retold, event);
    keep(this.#retold, event.messageId, now);
    if (told.position !== null && compareEventIds(now.position, told.position) <= 0) return { isNext: true, told: null };
    keep(this.#told, event.messageId, now);
    const [attempt, n] = parseEventId(told.position ?? "0-0");
    const isPartlyTold = event.type === "delta" && told.position !== null && !isNext(told.position, event);
    if (!isPartlyTold) return { isNext: true, told: event };
    const rest = { ...event, from: `${attempt}-${n + 1}`, content: now.content.slice(told.content.length) };
    if (rest.from === rest.id) delete rest.from;
    return { isNext: true, told: rest };
  }
}

/** Of what has ended the position is enough, and of the longest ended not even that. */
function keep(states, messageId, now) {
  states.delete(messageId);
  states.set(messageId, FINAL_STATUSES.has(now.status) ? { ...start(), position: now.position } : now);
  if (states.size > MOST_KEPT) states.delete(states.keys().next().value);
}

/**
 * Calls `ping` after a silence, and `giveUp` where nothing comes back: a browser does not notice a connection that died
 * silently. In a hidden tab, whose timers run once a minute, both merely come later.
 */
class Watchdog {
  constructor(ping, giveUp) {
    this.alive();
    this.timer = setInterval(() => {
      const nowMs = performance.now();
      if (this.pingedAtMs !== null) {
        if (nowMs - this.pingedAtMs > PONG_WITHIN_MS) giveUp();
      } else if (nowMs - this.heardAtMs > PING_AFTER_MS) {
        this.pingedAtMs = nowMs;
        ping();
      }
    }, 1000);
  }

  alive() {
    this.heardAtMs = performance.now();
    this.pingedAtMs = null;
  }

  stop() {
    clearInterval(this.timer);
  }
}

export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** Waits; ends early when the signal aborts, and when the browser says that the network is back. */
function sleep(durationMs, signal) {
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      globalThis.removeEventListener?.("online", wake);
      resolve();
    };
    const timer = setTimeout(wake, durationMs);
    signal?.addEventListener("abort", wake);
    globalThis.addEventListener?.("online", wake);
  });
}
