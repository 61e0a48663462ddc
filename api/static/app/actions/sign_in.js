/** Starting the page, signing in and out. */
import { batch } from "../../vendor/signals.js";
import { request } from "../api.js";
import { ChatRelay } from "../client.js";
import * as state from "../state.js";
import { storedToken, storeToken } from "../stored_token.js";
import { openProject, takeProjects } from "./projects.js";
import { forget, leaveProject, session, writeFragment } from "./session.js";

const AGAIN_AFTER_MS = 3000;

/** Reads the address's fragment (`#token=…&project=…`), takes the token out of it, and shows what it names. */
export async function start() {
  globalThis.addEventListener("hashchange", readFragment);
  loadInfo();
  await readFragment();
}

async function readFragment() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  const projectId = fragment.get("project");
  if (given) {
    writeFragment(projectId);
    await signIn(given, projectId);
  } else if (state.token.value === null) {
    const stored = storedToken();
    if (stored) await signIn(stored, projectId);
  } else if (projectId && projectId !== session.visit?.projectId) {
    await openProject(projectId);
  }
}

/** Takes the token if the server does, and says why where it doesn't; asks again while the server can't be reached. */
export async function signIn(token, projectId = null) {
  leaveProject();
  const client = new ChatRelay({ token });
  session.client = client;
  state.signInError.value = null;
  try {
    const page = await client.projects();
    if (session.client !== client) return;
    storeToken(token);
    batch(() => {
      state.token.value = token;
      takeProjects(page);
    });
    loadMe(client);
    const chosen = projectId ?? page.items[0]?.id;
    if (chosen) await openProject(chosen);
  } catch (error) {
    if (session.client !== client) return;
    if (error.isTransient) {
      state.signInError.value = `${error.message} Trying again…`;
      setTimeout(() => session.client === client && signIn(token, projectId), AGAIN_AFTER_MS);
      return;
    }
    forget();
    const isUnknown = error.status === 401;
    state.signInError.value = isUnknown ? "This token is not known here, or it has expired." : error.message;
  }
}

export function signOut() {
  forget();
  writeFragment(null);
}

/** Who this is; the page works without: it then names no authors. */
async function loadMe(client) {
  try {
    const me = await client.me();
    if (session.client === client) state.me.value = me;
  } catch {
    if (session.client === client) state.me.value = null;
  }
}

async function loadInfo() {
  try {
    state.info.value = await request("GET", `${location.origin}/page.json`);
  } catch {
    state.info.value = null; // the page works without: it then offers no choice of models
  }
}
