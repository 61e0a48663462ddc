/** Messages as they come: pages of rows, and live events. */
import { batch, signal } from "../../vendor/signals.js";
import { FINAL_STATUSES, fold, fromRow, resumeAfter } from "../fold.js";
import * as state from "../state.js";
import { followDocument } from "./document.js";
import { announce, fail, session } from "./session.js";

export const PAGE_SIZE = 30;

const LOST_SHOWN_AFTER_MS = 1000;
const BACK_SHOWN_MS = 2500;

/** Takes the newest page of messages: what it shares with those that are known ties the two together. */
export function takeNewest(page) {
  const paged = page.items.map((row) => row.id).reverse();
  const known = state.messageIds.value;
  const firstShared = known.findIndex((id) => paged.includes(id));
  for (const row of page.items) takeListed(row);
  if (firstShared === -1) {
    state.messageIds.value = paged;
    state.olderCursor.value = page.nextCursor;
  } else {
    const newer = known.slice(firstShared).filter((id) => !paged.includes(id)); // sent since the page was made
    state.messageIds.value = [...known.slice(0, firstShared), ...paged, ...newer];
  }
}

/** Puts rows, oldest first, after those that are known. */
export function append(rows) {
  const fresh = rows.filter((row) => !state.messages.has(row.id));
  for (const row of fresh) takeListed(row);
  state.messageIds.value = [...state.messageIds.value, ...fresh.map((row) => row.id)];
}

function takeListed(row) {
  const known = state.messages.get(row.id);
  if (!known) state.messages.set(row.id, signal(fromRow(row)));
  else if (isNews(known.peek(), row)) known.value = fromRow(row);
}

/** Whether the row tells something that following its events would not. */
function isNews(known, row) {
  return FINAL_STATUSES.has(known.status) && (row.attempt !== known.attempt || row.status !== known.status);
}

export function followUnfinished() {
  for (const id of state.messageIds.value) {
    const message = state.messages.get(id).peek();
    const isFollowed = message.role === "assistant" && !FINAL_STATUSES.has(message.status);
    if (isFollowed) session.visit.live.follow(id, resumeAfter(message));
  }
}

/** Shows what happened while nobody looked: messages from elsewhere, the document. */
export async function catchUp() {
  const { visit, client } = session;
  if (!visit || state.opening.value) return;
  followDocument();
  try {
    const page = await client.messages(visit.projectId, { limit: PAGE_SIZE });
    if (visit.isOver) return;
    batch(() => takeNewest(page));
    followUnfinished();
  } catch (error) {
    if (!visit.isOver && !error.isTransient) fail(error);
  }
}

export async function loadOlder() {
  if (state.loadingOlder.value || state.olderCursor.value === null) return;
  const { visit, client } = session;
  state.loadingOlder.value = true;
  try {
    const page = await client.messages(visit.projectId, { limit: PAGE_SIZE, before: state.olderCursor.value });
    if (visit.isOver) return;
    const fresh = page.items.filter((row) => !state.messages.has(row.id));
    batch(() => {
      for (const row of fresh) takeListed(row);
      state.messageIds.value = [...fresh.map((row) => row.id).reverse(), ...state.messageIds.value];
      state.olderCursor.value = page.nextCursor;
    });
    followUnfinished();
  } catch (error) {
    if (!visit.isOver) fail(error);
  } finally {
    if (!visit.isOver) state.loadingOlder.value = false;
  }
}

export function takeEvent(messageId, event) {
  const message = state.messages.get(messageId);
  const before = message.peek();
  const after = fold(before, event);
  if (after === before) return;
  message.value = after;
  announceChange(before, after);
  if (changesDocument(event)) followDocument();
}

function changesDocument(event) {
  if (event.type === "tool_result") return event.success;
  return event.type === "snapshot" && event.toolCalls.some((call) => call.version > state.documentVersion.value);
}

/** The final row: it says what events left out, and all of it where the events could not be had. */
export function takeRow(messageId, row) {
  const message = state.messages.get(messageId);
  const before = message.peek();
  if (FINAL_STATUSES.has(before.status)) {
    message.value = { ...before, attempt: row.attempt, updatedAt: row.updatedAt };
    return;
  }
  message.value = fromRow(row);
  announceChange(before, message.value);
  followDocument();
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
