/** What a person does with messages: send, edit and ask again, stop, run again. */
import { batch } from "../../vendor/signals.js";
import { refusalWords } from "../advice.js";
import { newKey } from "../client.js";
import { ordinal } from "../queue.js";
import * as state from "../state.js";
import { storedOnBusy, storedOutbox, storeOnBusy, storeOutbox } from "./drafts.js";
import { catchUp, takeRows } from "./messages.js";
import { dropFromOutbox, setOutbox } from "./outbox.js";
import { createProject } from "./projects.js";
import { announce, fail, session } from "./session.js";

/** What may be chosen for a message that is sent while an answer is unfinished. */
const ON_BUSY = ["queue", "parallel", "interrupt"];

/** Sends what was written. It is shown at once, and as long as the server has not said that it is stored. */
export function send(content) {
  const onBusy = state.isBusy.value ? state.onBusy.value : null;
  const item = { key: newKey(), content, model: state.model.value, onBusy, state: "sending", detail: null };
  batch(() => {
    state.rewriting.value = null;
    setOutbox([...state.outbox.value, item]);
  });
  return postInOrder(item);
}

/** Makes a video project, opens it, and asks this in it. */
export async function tryOut(text) {
  try {
    await createProject("My first video", { template: "video" });
  } catch (error) {
    fail(error);
    return;
  }
  if (session.visit) await send(text);
}

/** Sends once more what failed, under the same key. */
export function sendAgain(key) {
  const item = state.outbox.value.find((waiting) => waiting.key === key);
  changeOutbox(key, { state: "sending", detail: null });
  return postInOrder(item);
}

/** Gives the text of a message that could not be sent back to the composer. */
export function takeBack(key) {
  const item = state.outbox.value.find((waiting) => waiting.key === key);
  batch(() => {
    dropFromOutbox(key);
    state.draft.value = { text: item.content, turn: state.draft.value.turn + 1 };
  });
}

/** Shows what an earlier visit in this tab sent without an answer; sending it again never makes a second message. */
export function restoreUnsent() {
  const chosen = storedOnBusy();
  const kept = storedOutbox(session.visit.projectId);
  batch(() => {
    if (ON_BUSY.includes(chosen)) state.onBusy.value = chosen;
    const known = new Set(state.outbox.value.map(({ key }) => key));
    const detail = "The page was left before the server had answered.";
    const unsent = kept.filter(({ key }) => !known.has(key));
    if (unsent.length) setOutbox([...unsent.map((item) => ({ ...item, state: "failed", detail })), ...state.outbox.value]);
  });
}

/** One after the other: two requests that are under way at once may arrive the other way round. */
function postInOrder(item) {
  const { visit, client } = session;
  visit.posted = visit.posted.then(() => post(item, visit, client));
  return visit.posted;
}

async function post({ key, content, model, onBusy }, visit, client) {
  try {
    const { userMessage, assistantMessage } = await client.submit(visit.projectId, content, {
      key,
      model,
      onBusy,
      onTryAgain: () => changeOutbox(key, { state: "unknown", detail: "No answer yet – trying again." }),
    });
    if (visit.isOver) {
      storeOutbox(visit.projectId, storedOutbox(visit.projectId).filter((item) => item.key !== key));
      return;
    }
    batch(() => {
      dropFromOutbox(key);
      takeRows([userMessage, assistantMessage]);
    });
    const place = state.placeInLine(assistantMessage.id);
    if (place > 1) announce(`Waiting, ${ordinal(place)} in line.`);
  } catch (error) {
    if (visit.isOver) return;
    if (error.status === 401) fail(error);
    else {
      const detail = refusalWords(error);
      changeOutbox(key, { state: "failed", detail });
      announce(`Not sent: ${detail}`);
    }
  }
}

function changeOutbox(key, fields) {
  setOutbox(state.outbox.value.map((item) => (item.key === key ? { ...item, ...fields } : item)));
}

/** Puts the text of a user's message into the composer, to be sent as a new one; what was asked stays. */
export function editAndAskAgain(messageId) {
  const message = state.messages.get(messageId)?.peek();
  if (!message || !state.canWrite.value) return;
  batch(() => {
    state.rewriting.value = messageId;
    state.draft.value = { text: message.content, turn: state.draft.value.turn + 1 };
  });
  announce("Editing. Send asks anew; what was asked before stays.");
}

/** The same for the newest message that the user wrote; does nothing where there is none. */
export function editNewest() {
  const mine = state.messageIds.value.findLast((id) => {
    const { role, author } = state.messages.get(id).peek();
    return role === "user" && (author == null || state.me.value === null || author === state.me.value.user);
  });
  if (mine) editAndAskAgain(mine);
}

export function stopEditing() {
  state.rewriting.value = null;
}

/** Stops the message, running or queued. */
export async function cancel(messageId) {
  if (!state.canWrite.value) return;
  const { visit, client } = session;
  const message = state.messages.get(messageId);
  message.value = { ...message.peek(), stopping: true };
  try {
    await client.cancel(messageId);
  } catch (error) {
    message.value = { ...message.peek(), stopping: false };
    if (!visit.isOver && error.status !== 409) fail(error); // 409: it ended by itself just before
  }
}

/** Runs a final message again: it goes on where it failed, or begins a new run where it had succeeded. */
export async function retry(messageId) {
  const { visit, client } = session;
  const message = state.messages.get(messageId);
  const before = message.peek();
  message.value = { ...before, status: "pending", activity: null, error: null, stopping: false, queueNumber: null };
  announce("Trying again.");
  try {
    const { queueNumber } = await client.retry(messageId);
    if (visit.isOver) return;
    if (message.peek().activity === null) message.value = { ...message.peek(), queueNumber };
  } catch (error) {
    message.value = before;
    if (visit.isOver) return;
    if (error.status === 409) await catchUp(); // somebody else was faster
    else fail(error);
  }
}

/** Puts the cursor where the next message is written, after a button that goes away; not where a keyboard would pop up. */
export function focusComposer() {
  state.composerFocus.value += 1;
}

export function chooseModel(name) {
  state.model.value = name;
}

/** Chooses, for as long as the tab lasts, what a message does that is sent while an answer is unfinished. */
export function chooseOnBusy(choice) {
  state.onBusy.value = choice;
  storeOnBusy(choice);
}
