/** What was written here and is not known to be stored: shown, and kept in the tab. */
import * as state from "../state.js";
import { storeOutbox } from "./drafts.js";
import { session } from "./session.js";

export function setOutbox(items) {
  state.outbox.value = items;
  storeOutbox(session.visit.projectId, items);
}

export function dropFromOutbox(key) {
  setOutbox(state.outbox.value.filter((item) => item.key !== key));
}
