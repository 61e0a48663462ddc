/** What the page holds besides its signals: the client of whoever is signed in, and what else ends with the session. */
import { storeToken } from "../../app/stored_token.js";
import { batch } from "../../vendor/signals.js";
import * as state from "../state.js";

/** The one session of this page; `client` is null while there is none. `onEnd`: what stops with it. */
export const session = { client: null, onEnd: [] };

/** Ends what runs for whoever is signed in. */
export function leave() {
  for (const stop of session.onEnd.splice(0)) stop();
  session.client = null;
}

/** Forgets who was signed in, here and in the browser's storage. */
export function forget() {
  leave();
  storeToken(null);
  batch(() => {
    state.token.value = null;
    state.me.value = null;
    state.isDenied.value = false;
  });
}

/** Whether a refusal ends the session: the token is not good any more, or no operator's. It is then said in words. */
export function isOver(error) {
  if (error.status === 401) {
    forget();
    state.signInError.value = "This token is not known here any more.";
    return true;
  }
  if (error.code === "missing_scope" || error.closeCode === 4403) {
    leave();
    state.isDenied.value = true;
    return true;
  }
  return false;
}

/** Tells a screen reader. */
export function announce(text) {
  state.announcement.value = text;
}
