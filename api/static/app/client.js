/**
 * A client of chatrelay for a browser: the HTTP calls, and following a message over a WebSocket without losing an
 * event or showing one twice. It needs nothing of the page around it.
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

  createProject({ name, template }) {
    return this.request("POST", "/v1/projects", { body: template ? { name, template } : { name } });
  }

  renameProject(projectId, name) {
    return this.request("PATCH", `/v1/projects/${projectId}`, { body: { name } });
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

  /** The document as it was at a version: `{version, document}`. */
  documentAt(projectId, version) {
    return this.request("GET", `/v1/projects/${projectId}/versions/${version}`);
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

  /** A ticket for one socket on this path, good for half a minute. */
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
}

class Following {
  constructor(client, messageId, { after, onEvent, onConnection, onRefused }) {
    this.client = client;
    this.messageId = messageId;
    this.position = after;
    this.onEvent = onEvent;
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
          this.onRefused(new Error(CLOSE_CODES[closeCode].meaning));
          return null;
        }
        if (closeCode === 1000 || this.failures >= ROW_AFTER_FAILURES) {
          const row = await this.client.message(this.messageId);
          if (FINAL_STATUSES.has(row.status)) return row;
        }
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
    const path = `/v1/messages/${this.messageId}/socket`;
    const ticket = await this.client.ticket(path);
    const url = new URL(path + query({ after: this.position, ticket }), this.client.origin);
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

function query(parameters) {
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
