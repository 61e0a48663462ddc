/** Messages as they come: pages of rows, and live events. */
import { batch, signal } from "../../vendor/signals.js";
import { attemptOf, compareEventIds } from "../event_id.js";
import { FINAL_STATUSES, fold, fromRow, start } from "../fold.js";
import * as state from "../state.js";
import { followDocument, takeDocument } from "./document.js";
import { takeJob } from "./jobs.js";
import { dropFromOutbox } from "./outbox.js";
import { announce, fail, session } from "./session.js";

const PAGE_SIZE = 30;

const LOST_SHOWN_AFTER_MS = 1000;
const BACK_SHOWN_MS = 2500;

/**
 * Takes the newest page of messages. Older ones that are known are kept where the page reaches back to what is known;
 * otherwise too much happened in between to show it all.
 */
function takeNewest(page) {
  const paged = new Set(page.items.map((row) => row.id));
  const oldest = page.items.at(-1)?.id ?? "";
  const known = state.messageIds.value;
  const older = known.filter((id) => id < oldest);
  const isTied = known.some((id) => paged.has(id));
  if (!isTied || older.length === 0) {
    for (const id of older) state.messages.delete(id);
    state.messageIds.value = known.filter((id) => id >= oldest);
    state.olderCursor.value = page.nextCursor;
  }
  takeRows(page.items);
}

/** Takes rows, in any order: those that are new find their place by their ids, which rise with time. */
export function takeRows(rows) {
  const fresh = rows.filter((row) => !state.messages.has(row.id));
  for (const row of rows) takeKnownOrNew(row);
  if (fresh.length) state.messageIds.value = [...state.messageIds.value, ...fresh.map((row) => row.id)].sort();
}

function takeKnownOrNew(row) {
  const known = state.messages.get(row.id);
  if (!known) state.messages.set(row.id, signal(withEvents(fromRow(row))));
  else known.value = newer(known.peek(), row);
}

/** A new row, and what its events told before it was known. */
function withEvents(message) {
  const { replays } = session.visit;
  const told = replays.get(message.id);
  if (!told) return message;
  replays.delete(message.id);
  const isNewer = message.position === null || compareEventIds(told.position, message.position) > 0;
  return isNewer ? { ...message, ...told } : message;
}

/** What is known of a message, or its row where that is newer. */
function newer(known, row) {
  const isFinal = FINAL_STATUSES.has(row.status);
  if (!FINAL_STATUSES.has(known.status)) return isFinal ? fromRow(row) : known;
  if (isFinal && row.attempt === known.attempt) return known;
  const endedAtMs = known.endedAtMs ?? Date.parse(known.updatedAt);
  if (row.attempt < known.attempt || (!isFinal && Date.parse(row.updatedAt) <= endedAtMs)) return known; // read before the end
  // Somebody retried it: what comes follows what is known.
  return isFinal ? fromRow(row) : { ...fromRow(row), position: known.position };
}

/** Takes what the project's socket tells. */
export function takeTold(told) {
  switch (told.type) {
    case "message":
      if (told.message.role === "user") dropSent(told.message);
      takeRows([told.message]);
      break;
    case "document":
      if (state.opening.value) session.visit.ready.version = told.version; // what is being loaded may be older
      else takeDocument(told);
      break;
    case "job":
      takeJob(told);
      break;
    default:
      takeEvent(told);
  }
}

/** What was written here is stored: its row came before the answer to the request that made it. */
function dropSent(row) {
  const sent = state.outbox.value.find((item) => item.content === row.content && item.state !== "failed");
  if (sent && !state.messages.has(row.id)) dropFromOutbox(sent.key);
}

/** A connection stands: what is told from now on is complete, together with what a GET shows. */
export function takeReady(ready) {
  const { visit } = session;
  visit.ready = ready;
  // Each unfinished message is told anew from its attempt's start: what is shown stays until that has come as far.
  visit.replays.clear();
  for (const id of unfinishedIds()) if (state.messages.get(id).peek().position !== null) visit.replays.set(id, start());
  visit.onceReady();
  if (!state.opening.value) catchUp();
}

function unfinishedIds() {
  return state.messageIds.value.filter((id) => !FINAL_STATUSES.has(state.messages.get(id).peek().status));
}

/** Shows what happened while nobody told: messages from elsewhere, the ends of those that ended, the document. */
export async function catchUp() {
  const { visit } = session;
  if (!visit.ready || state.documentVersion.value < visit.ready.version) followDocument();
  try {
    await loadNewest();
  } catch (error) {
    if (!visit.isOver && !error.isTransient) fail(error);
  }
}

/** Loads the newest page of messages, and those rows that it leaves open; throws where it can't. */
export async function loadNewest() {
  const { visit, client } = session;
  const page = await client.messages(visit.projectId, { limit: PAGE_SIZE });
  if (visit.isOver) return;
  batch(() => takeNewest(page));
  const paged = new Set(page.items.map((row) => row.id));
  for (const id of unfinishedIds()) if (!paged.has(id)) await loadRow(id);
}

/** Loads one message: what its row says beyond its events. */
async function loadRow(messageId) {
  const { visit, client } = session;
  const row = await client.message(messageId);
  if (!visit.isOver && state.messages.has(messageId)) takeRow(messageId, row);
}

export async function loadOlder() {
  if (state.loadingOlder.value || state.olderCursor.value === null) return;
  const { visit, client } = session;
  state.loadingOlder.value = true;
  try {
    const page = await client.messages(visit.projectId, { limit: PAGE_SIZE, before: state.olderCursor.value });
    if (visit.isOver) return;
    batch(() => {
      takeRows(page.items);
      state.olderCursor.value = page.nextCursor;
    });
  } catch (error) {
    if (!visit.isOver) fail(error);
  } finally {
    if (!visit.isOver) state.loadingOlder.value = false;
  }
}

function takeEvent(event) {
  const message = state.messages.get(event.messageId);
  const { replays } = session.visit;
  if (!message || replays.has(event.messageId)) {
    replays.set(event.messageId, fold(replays.get(event.messageId) ?? start(), event));
    if (!message) return;
  }
  const before = message.peek();
  let after = before;
  if (!replays.has(before.id)) after = fold(before, event);
  else if (before.position === null || compareEventIds(event.id, before.position) >= 0) {
    after = { ...before, ...replays.get(before.id) };
    replays.delete(before.id);
  }
  if (after === before) return;
  if (FINAL_STATUSES.has(after.status)) {
    after = { ...after, attempt: attemptOf(event.id), endedAtMs: event.ts, stopping: false };
  }
  message.value = after;
  announceChange(before, after);
  const lacksVersion = (call) => call.state === "succeeded" && !call.version && !call.jobId;
  if (event.type === "finalized" && after.toolCalls.some(lacksVersion)) loadRow(after.id).catch(() => {});
}

/** Takes the row of a message that is known: where that ended meanwhile, what it says; else what events leave out. */
function takeRow(messageId, row) {
  const message = state.messages.get(messageId);
  const before = message.peek();
  if (FINAL_STATUSES.has(before.status) && row.attempt === before.attempt) {
    message.value = { ...before, toolCalls: row.toolCalls ?? [], updatedAt: row.updatedAt };
    return;
  }
  message.value = newer(before, row);
  announceChange(before, message.value);
}

/** Says that events can't arrive, if it lasts, and that they can again. */
export function showConnection(isConnected) {
  const { visit } = session;
  visit.drop("connection");
  if (!isConnected) {
    visit.later("connection", LOST_SHOWN_AFTER_MS, () => {
      state.connection.value = "lost";
      announce("Connection lost.");
    });
  } else if (state.connection.value === "lost") {
    state.connection.value = "back";
    announce("Connected again.");
    visit.later("connection", BACK_SHOWN_MS, () => {
      state.connection.value = "ok";
    });
  }
}

function announceChange(before, after) {
  const words = after.status === before.status ? activityWords(before, after) : statusWords(after);
  if (words) announce(words);
}

function statusWords({ status, error }) {
  switch (status) {
    case "success":
      return "The answer is complete.";
    case "cancelled":
      return "Stopped.";
    case "error":
      return `Failed: ${error?.detail ?? "something went wrong"}`;
    case "building":
      return "A component is being built.";
    default:
      return null;
  }
}

function activityWords(before, after) {
  if (after.activity === before.activity) return null;
  if (after.activity === "thinking") return "Thinking.";
  return after.activity === "tool_calling" ? `Calling ${after.toolCalls.at(-1)?.name ?? "a tool"}.` : null;
}
