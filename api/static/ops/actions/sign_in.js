/** Starting the page, signing in and out, and the address. */
import { request } from "../../app/api.js";
import { storedToken, storeToken } from "../../app/stored_token.js";
import { batch } from "../../vendor/signals.js";
import { OpsClient } from "../client.js";
import { readRoute } from "../route.js";
import * as state from "../state.js";
import { watch } from "./live.js";
import { forget, leave, session } from "./session.js";
import { show } from "./views.js";

const AGAIN_AFTER_MS = 3000;

/** Reads the address's fragment, takes a token out of it (`#token=…`), and shows what it names. */
export async function start() {
  globalThis.addEventListener("hashchange", readFragment);
  loadInfo();
  await readFragment();
}

async function readFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  if (given) {
    fragment.delete("token");
    const rest = fragment.toString();
    history.replaceState(null, "", rest ? `#${rest}` : location.pathname + location.search);
  }
  state.route.value = readRoute(location.hash);
  if (given) await signIn(given);
  else if (state.token.value === null) {
    const stored = storedToken();
    if (stored) await signIn(stored);
  } else show();
}

/** Takes the token if the server does, and says why where it doesn't; asks again while the server can't be reached. */
export async function signIn(token) {
  leave();
  const client = new OpsClient({ token });
  session.client = client;
  state.signInError.value = null;
  try {
    const me = await client.me();
    if (session.client !== client) return;
    storeToken(token);
    batch(() => {
      state.token.value = token;
      state.me.value = me;
      state.isDenied.value = !me.scopes.includes("ops");
    });
    if (state.isDenied.value) return;
    watch(client);
    show();
  } catch (error) {
    if (session.client !== client) return;
    if (error.isTransient) {
      state.signInError.value = `${error.message} Trying again…`;
      setTimeout(() => session.client === client && signIn(token), AGAIN_AFTER_MS);
      return;
    }
    forget();
    const isUnknown = error.status === 401;
    state.signInError.value = isUnknown ? "This token is not known here, or it has expired." : error.message;
  }
}

export function signOut() {
  forget();
}

async function loadInfo() {
  try {
    state.info.value = await request("GET", `${location.origin}/page.json`);
  } catch {
    state.info.value = null; // the page works without: it then offers no choice of models
  }
}
