/**
 * A client of chatrelay for a browser: the HTTP calls, and following a message, or all of a project, over a WebSocket
 * without losing an event or showing one twice. It needs nothing of the page around it.
 *
 *     const client = new ChatRelay({ token });
 *     const { assistantMessage } = await client.submit(projectId, "Hello");
 *     let message = fromRow(assistantMessage);
 *     const onEvent = (event) => { message = fold(message, event); };
 *     await client.follow(assistantMessage.id, { onEvent }).done;
 */
import { ApiError, NoAnswer, request } from "./api.js";
import { compareEventIds, isNext } from "./event_id.js";
import { FINAL_STATUSES } from "./fold.js";

/** The close codes that a reader may see, and whether it should come back. One that is not here: it should. */
export const CLOSE_CODES = {
  1000: { meaning: "finished", reconnect: false },
  1002: { meaning: "not a WebSocket frame", reconnect: false },
  1007: { meaning: "text that is not UTF-8", reconnect: false },
  1008: { meaning: "too many frames", reconnect: false },
  1011: { meaning: "something went wrong on the server", reconnect: true },
  1012: { meaning: "the server restarts", reconnect: true },
  4008: { meaning: "too slow", reconnect: true },
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

export class ChatRelay {
  /** `origin` is where the API is; the page's own by default. */
  constructor({ token, origin = location.origin }) {
    this.token = token;
    this.origin = origin;
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
}

/**
 * One socket after the other on a path, until the server says that it is enough, or `stop()`. Who extends it says what is
 * asked for (`parameters`), what becomes of a frame (`take`; false ends the socket) and of a socket's end (`afterSocket`).
 */
export class Line {
  constructor(client, path, { onConnection, onRefused }) {
    this.client = client;
    this.path = path;
    this.onConnection = onConnection;
    this.onRefused = onRefused;
    this.stopping = new AbortController();
    this.failures = 0;
  }

  /** Ends it: no more callbacks, no more connections. */
  stop() {
    this.stopping.abort();
  }

  async run() {
    while (!this.stopping.signal.aborted) {
      try {
        const closeCode = await this.readOneSocket();
        if (this.stopping.signal.aborted) return null;
        if (closeCode !== 1000) this.onConnection(false);
        if (CLOSE_CODES[closeCode]?.reconnect === false && closeCode !== 1000) {
          this.onRefused(Object.assign(new Error(CLOSE_CODES[closeCode].meaning), { closeCode }));
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
    const ticket = await this.client.ticket(this.path);
    const url = new URL(this.path + query({ ...this.parameters(), ticket }), this.client.origin);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.stopping.signal.aborted) return 1000;
    const socket = new WebSocket(url);
    return new Promise((resolve, reject) => {
      const watchdog = new Watchdog(
        () => socket.readyState === WebSocket.OPEN && socket.send('{"type":"ping"}'),
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
          if (!this.take(JSON.parse(frame.data))) end(1006);
        } catch (error) {
          end(1006);
          reject(error);
        }
      };
    });
  }
}

class Following extends Line {
  constructor(client, messageId, { after, onEvent, ...handlers }) {
    super(client, `/v1/messages/${messageId}/socket`, handlers);
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
    return FINAL_STATUSES.has(row.status) ? row : null;
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
  constructor(client, projectId, { onReady, onEvent, onFailing, ...handlers }) {
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
    } else if (frame.id !== undefined || PROJECT_EVENTS.has(frame.type)) this.onEvent(frame);
    return true;
  }
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

/** The query string of what is not null, with its question mark; empty where nothing is. */
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
