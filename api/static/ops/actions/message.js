/** One message: loading it, again whenever something is told of it, and what an operator may do to it. */
import * as state from "../state.js";
import { listeners, refresh } from "./live.js";
import { announce, isOver, session } from "./session.js";

/** A busy message is not loaded more often than this. */
const LOADED_AT_MOST_EVERY_MS = 500;
/** So often while it is unfinished: not all that its log gets is told to operators. */
const LOADED_EVERY_MS = 3000;
const IDLE = { isBusy: false, problem: null };

let timer = null;
let isLoading = false;

listeners.add((line) => {
  if (line.messageId === state.message.value.id) again(LOADED_AT_MOST_EVERY_MS);
});

/** Shows the message, and goes on showing how it changes while it is looked at. */
export async function loadMessage(id) {
  if (state.message.value.id !== id) state.message.value = { id, details: null, error: null, act: IDLE };
  if (isLoading) return again(LOADED_AT_MOST_EVERY_MS);
  isLoading = true;
  try {
    const details = await session.client.anyMessage(id);
    if (isLookedAt(id)) state.message.value = { ...state.message.value, details, error: null };
    if (["pending", "building"].includes(details.message.status)) again(LOADED_EVERY_MS);
  } catch (error) {
    if (!isLookedAt(id) || isOver(error)) return;
    const words = error.status === 404 ? "There is no such message, or it was deleted with its project." : error.message;
    state.message.value = { ...state.message.value, error: words };
    if (error.isTransient) again(LOADED_EVERY_MS);
  } finally {
    isLoading = false;
    if (!isLookedAt(id) && state.route.value.view === "message") again(0);
  }
}

function isLookedAt(id) {
  const { view, id: shown } = state.route.value;
  return session.client !== null && view === "message" && shown === id;
}

function again(afterMs) {
  if (timer !== null && afterMs >= LOADED_EVERY_MS) return;
  clearTimeout(timer);
  timer = setTimeout(() => {
    timer = null;
    const { view, id } = state.route.value;
    if (session.client !== null && view === "message") loadMessage(id);
  }, afterMs);
}

/** Asks for the message's end; its text so far is kept. */
export function cancelMessage(id) {
  return act(id, () => session.client.cancelAny(id), "The message was asked to end.");
}

/** Puts the message back in its queue. */
export function retryMessage(id) {
  return act(id, () => session.client.retryAny(id), "The message is back in its queue.");
}

async function act(id, call, words) {
  state.message.value = { ...state.message.value, act: { isBusy: true, problem: null } };
  let problem = null;
  try {
    await call();
    announce(words);
    refresh();
  } catch (error) {
    if (isOver(error)) return;
    problem = error.message;
  }
  if (!isLookedAt(id)) return;
  state.message.value = { ...state.message.value, act: { isBusy: false, problem } };
  again(0);
}
