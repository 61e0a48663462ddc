/**
 * What happens, as it happens: the socket's lines go into what is kept of the last hour and of what is unfinished; figures
 * that no line tells are asked for every few seconds. Drawing waits for the browser's next frame, however many lines came.
 */
import { batch } from "../../vendor/signals.js";
import { STEP_MS } from "../history.js";
import * as state from "../state.js";
import { clock, count, duration } from "../words.js";
import { announce, isOver, session } from "./session.js";

const SUMMARY_EVERY_MS = 3000;
const SUMMARY_HIDDEN_EVERY_MS = 15_000;
/** After an answer failed the figures are asked for anew, but not more often than this. */
const SUMMARY_AT_MOST_EVERY_MS = 1500;
/** Known unfinished messages are compared with the rows so often; what no line told is noticed then. */
const UNFINISHED_EVERY_MS = 60_000;
const DRAWN_EVERY_MS = 250;
const PAGE = 200;
/** Pages of rows that are loaded to draw what happened before the page was opened, or while it was cut off. */
const MOST_PAGES = 5;
const HOUR_MS = 3_600_000;
/** Ends that are remembered, so that none is counted twice: from its line, and from its row. */
const MOST_REMEMBERED = 10_000;

const { history, unfinished } = state.live;

/** Watches for whoever is signed in, until the session ends. */
export function watch(client) {
  const watching = new Watch(client);
  session.onEnd.push(() => watching.stop());
  watching.start();
}

/** By the server's clock. */
export function serverNowMs() {
  return Date.now() + state.clockSkewMs.value;
}

/** Called with each line about one message; the message that is looked at is loaded again. */
export const listeners = new Set();

/** Asks for the figures anew, soon: something was done that changes them. */
export let refresh = () => {};

class Watch {
  constructor(client) {
    this.client = client;
    this.isOver = false;
    this.counted = new Map();
    /** Until when nothing is lacking, by the server's clock; null before anything was heard. */
    this.heardUntilMs = null;
    this.isListening = false;
    this.isDrawing = false;
    this.drawnAtMs = 0;
    this.askedAtMs = 0;
    this.dueAtMs = Date.now() + SUMMARY_EVERY_MS; // the socket brings the first summary
    this.isAsking = false;
    this.unfinishedAtMs = 0;
  }

  start() {
    state.connection.value = { state: "connecting", sinceMs: Date.now() };
    refresh = () => this.askSoon();
    this.line = this.client.watchAll({
      onReady: (summary) => this.onReady(summary),
      onLine: (line) => this.onLine(line),
      onConnection: (isUp) => isUp || this.onCut(),
      onRefused: (error) => this.onRefused(error),
    });
    this.timer = setInterval(() => this.tick(), 500);
    this.onVisible = () => this.askSoon();
    document.addEventListener("visibilitychange", this.onVisible);
  }

  stop() {
    this.isOver = true;
    this.line.stop();
    clearInterval(this.timer);
    document.removeEventListener("visibilitychange", this.onVisible);
    refresh = () => {};
  }

  // --- the socket ---

  onReady(summary) {
    const wasCut = state.connection.value.state === "cut" ? state.connection.value.sinceMs : null;
    const lackedFromMs = this.heardUntilMs;
    if (summary !== null) this.takeSummary(summary);
    const nowMs = summary === null ? serverNowMs() : Date.parse(summary.at);
    this.isListening = true;
    this.heardUntilMs = nowMs;
    state.connection.value = { state: "ok", sinceMs: Date.now() };
    if (wasCut !== null) {
      const words = `The connection was cut from ${clock(wasCut)}, for ${duration(Date.now() - wasCut)}. What happened meanwhile was`
        + " not told; the figures were loaded anew.";
      state.gap.value = words;
      announce(words);
    }
    if (summary === null) this.askSoon();
    this.fill(lackedFromMs ?? nowMs - HOUR_MS, nowMs);
    this.loadUnfinished();
  }

  onCut() {
    this.isListening = false;
    if (state.connection.value.state === "cut") return;
    state.connection.value = { state: "cut", sinceMs: Date.now() };
    announce("The connection is cut. Events may be missed.");
    this.draw();
  }

  onRefused(error) {
    if (isOver(error)) return;
    state.connection.value = { state: "cut", sinceMs: Date.now() };
    state.summaryError.value = error.message;
  }

  onLine(line) {
    if (line.type === "missed") {
      this.onMissed(line);
      return;
    }
    if (line.type === "finalized" && line.status !== "building") this.onEnd(line);
    unfinished.take(line);
    for (const listener of listeners) listener(line);
    this.draw();
  }

  onEnd(line) {
    if (this.isCounted(line.messageId, line.attempt)) return;
    history.end(Math.min(line.ts, serverNowMs() + STEP_MS), {
      status: line.status,
      code: line.code,
      firstTokenMs: line.timing?.firstTokenMs ?? null,
      totalMs: line.timing?.totalMs ?? null,
    });
    if (line.status === "error") this.askSoon();
  }

  onMissed({ count: number, since, reason }) {
    const much = number === null ? "Any number of events" : `${count(number)} events`;
    const why = reason === "slow" ? "because this page did not keep up" : "because the server was cut off from Redis";
    state.gap.value = `${much} since ${clock(since)} were not told, ${why}. The figures were loaded anew.`;
    announce(state.gap.value);
    const nowMs = serverNowMs();
    history.forget(since, nowMs);
    this.counted.clear();
    this.fill(since - (since % STEP_MS), nowMs);
    this.askSoon();
    this.loadUnfinished();
  }

  /** Whether this end was counted before; from now on it was. */
  isCounted(messageId, attempt) {
    if (this.counted.get(messageId) === attempt) return true;
    this.counted.set(messageId, attempt);
    if (this.counted.size > MOST_REMEMBERED) this.counted.delete(this.counted.keys().next().value);
    return false;
  }

  // --- the figures ---

  tick() {
    const nowMs = Date.now();
    if (this.isListening) {
      history.know(this.heardUntilMs, serverNowMs());
      this.heardUntilMs = serverNowMs();
    }
    if (nowMs >= this.dueAtMs) this.ask();
    if (this.isListening && nowMs - this.unfinishedAtMs >= UNFINISHED_EVERY_MS) this.loadUnfinished();
    this.draw();
  }

  askSoon() {
    this.dueAtMs = Math.min(this.dueAtMs, Math.max(Date.now(), this.askedAtMs + SUMMARY_AT_MOST_EVERY_MS));
  }

  async ask() {
    if (this.isAsking) return;
    this.isAsking = true;
    this.askedAtMs = Date.now();
    this.dueAtMs = this.askedAtMs + (document.visibilityState === "hidden" ? SUMMARY_HIDDEN_EVERY_MS : SUMMARY_EVERY_MS);
    try {
      const summary = await this.client.summary();
      if (!this.isOver) this.takeSummary(summary);
    } catch (error) {
      if (!this.isOver && !isOver(error)) state.summaryError.value = error.message;
    } finally {
      this.isAsking = false;
    }
  }

  takeSummary(summary) {
    const atMs = Date.parse(summary.at);
    batch(() => {
      state.summary.value = summary;
      state.summaryError.value = null;
      state.clockSkewMs.value = atMs - Date.now();
    });
    const of = (status) => summary.unfinished.find((figures) => figures.status === status);
    const oldest = summary.unfinished.map(({ oldestWaitingMs }) => oldestWaitingMs).filter((ms) => ms !== null);
    history.sample(atMs, {
      waiting: of("pending")?.waiting ?? 0,
      building: of("building")?.waiting ?? 0,
      oldestMs: oldest.length ? Math.max(...oldest) : 0,
    });
    this.draw();
  }

  // --- rows ---

  /** Draws what ended between the two moments from the rows, as far back as so many rows reach. */
  async fill(fromMs, untilMs) {
    try {
      const { rows, isWhole } = await this.rows({ since: new Date(fromMs).toISOString() }, MOST_PAGES);
      if (this.isOver) return;
      for (const row of rows) {
        const endedMs = Date.parse(row.updatedAt);
        const isEnd = row.status !== "pending" && row.status !== "building";
        if (!isEnd || endedMs <= fromMs || endedMs > untilMs || this.isCounted(row.id, row.attempt)) continue;
        const { firstTokenMs = null, totalMs = null } = row.timing ?? {};
        history.end(endedMs, { status: row.status, code: row.code, firstTokenMs, totalMs });
      }
      history.know(isWhole || rows.length === 0 ? fromMs : Date.parse(rows.at(-1).createdAt), untilMs);
      this.draw();
    } catch (error) {
      isOver(error); // else the charts begin now
    }
  }

  async loadUnfinished() {
    this.unfinishedAtMs = Date.now();
    const beganMs = serverNowMs();
    unfinished.beginLoad();
    try {
      const pages = await Promise.all(["pending", "building"].map((status) => this.rows({ status }, MOST_PAGES)));
      if (this.isOver) return;
      unfinished.endLoad(
        pages.flatMap(({ rows }) => rows),
        { beganMs, isWhole: pages.every(({ isWhole }) => isWhole) },
      );
      this.draw();
    } catch (error) {
      unfinished.endLoad([], { beganMs, isWhole: false });
      isOver(error);
    }
  }

  /** The newest rows that pass the filters, from at most so many pages: `{rows, isWhole}`. */
  async rows(filters, mostPages) {
    const rows = [];
    let before = null;
    for (let page = 0; page < mostPages && !this.isOver; page += 1) {
      const { items, nextCursor } = await this.client.anyMessages({ ...filters, limit: PAGE, before });
      rows.push(...items);
      if (nextCursor === null) return { rows, isWhole: true };
      before = nextCursor;
    }
    return { rows, isWhole: false };
  }

  // --- drawing ---

  /** Draws once in the browser's next frame, and no more than a few times a second: however much has changed. */
  draw() {
    if (this.isDrawing || this.isOver) return;
    this.isDrawing = true;
    requestAnimationFrame(() => {
      setTimeout(
        () => {
          this.isDrawing = false;
          if (this.isOver) return;
          this.drawnAtMs = performance.now();
          batch(() => {
            state.beat.value += 1;
            state.step.value = Math.floor(serverNowMs() / STEP_MS);
          });
        },
        Math.max(0, this.drawnAtMs + DRAWN_EVERY_MS - performance.now()),
      );
    });
  }
}
