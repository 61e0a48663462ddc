/** What a person does with messages: send, stop, run again. */
import { batch } from "../../vendor/signals.js";
import { newKey } from "../client.js";
import * as state from "../state.js";
import { catchUp, takeRows } from "./messages.js";
import { announce, fail, session } from "./session.js";

/** Sends what was written. It is shown at once, and as long as the server has not said that it is stored. */
export function send(content) {
  const item = { key: newKey(), content, model: state.model.value, state: "sending", detail: null };
  state.outbox.value = [...state.outbox.value, item];
  return post(item);
}

/** Sends once more what failed, under the same key. */
export function sendAgain(key) {
  const item = state.outbox.value.find((waiting) => waiting.key === key);
  changeOutbox(key, { state: "sending", detail: null });
  return post(item);
}

/** Gives the text of a message that could not be sent back to the composer. */
export function takeBack(key) {
  const item = state.outbox.value.find((waiting) => waiting.key === key);
  batch(() => {
    state.outbox.value = state.outbox.value.filter((waiting) => waiting.key !== key);
    state.draft.value = { text: item.content, turn: state.draft.value.turn + 1 };
  });
}

async function post({ key, content, model }) {
  const { visit, client } = session;
  try {
    const { userMessage, assistantMessage } = await client.submit(visit.projectId, content, {
      key,
      model,
      onTryAgain: () => changeOutbox(key, { state: "unknown", detail: "No answer yet – trying again." }),
    });
    if (visit.isOver) return;
    batch(() => {
      state.outbox.value = state.outbox.value.filter((item) => item.key !== key);
      takeRows([userMessage, assistantMessage]);
    });
  } catch (error) {
    if (visit.isOver) return;
    if (error.status === 401) fail(error);
    else {
      changeOutbox(key, { state: "failed", detail: error.message });
      announce(`Not sent: ${error.message}`);
    }
  }
}

function changeOutbox(key, fields) {
  state.outbox.value = state.outbox.value.map((item) => (item.key === key ? { ...item, ...fields } : item));
}

/** Stops the message, running or queued. */
export async function cancel(messageId) {
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
  message.value = { ...before, status: "pending", activity: null, error: null, stopping: false };
  announce("Trying again.");
  try {
    await client.retry(messageId);
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
