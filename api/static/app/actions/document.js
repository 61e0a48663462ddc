/** The open project's document: loading it, and lighting up what changed. */
import { batch } from "../../vendor/signals.js";
import { backoffMs } from "../client.js";
import { ancestors, changedPointers } from "../diff.js";
import * as state from "../state.js";
import { announce, fail, session } from "./session.js";

const LIT_MS = 5000;
const TRIES = 8;

/** The loading that is under way; `again` where it is to be repeated at its end. */
let loading = null;

/** Takes a project as the server answered it; one that is older than what is shown is dropped. */
export function takeProject(project) {
  const { document: value, ...rest } = project;
  const isFirst = state.project.value?.id !== project.id;
  if (!isFirst && project.version < state.documentVersion.value) return;
  const changes = isFirst ? new Map() : changedPointers(state.documentValue.value, value);
  state.project.value = rest;
  state.documentVersion.value = project.version;
  if (isFirst || changes.size) state.documentValue.value = value;
  if (changes.size) light(changes);
}

/** Lights up what changed, and unfolds what it lies in. */
function light(changes) {
  const unfolded = new Map(state.unfolded.value);
  for (const [pointer, kind] of changes) {
    for (const above of ancestors(pointer)) unfolded.set(above, true);
    if (kind === "added") unfolded.set(pointer, true);
  }
  state.unfolded.value = unfolded;
  state.lit.value = changes;
  if (state.tab.value === "chat") state.documentUnseen.value = true;
  announce(`The document changed in ${changes.size === 1 ? "one place" : `${changes.size} places`}.`);
  session.visit.later("unlight", LIT_MS, () => {
    state.lit.value = new Map();
  });
}

/** Takes what the project's socket tells of the document. */
export function takeDocument(change) {
  if (change.version > state.documentVersion.value) followDocument();
}

/** Loads the document again, because somebody asked for it. */
export async function refreshDocument() {
  try {
    await loadDocument();
  } catch (error) {
    fail(error);
  }
}

/** Loads the document because it changed; where the server can't be reached, later, without a word. */
export async function followDocument(failures = 0) {
  const { visit } = session;
  try {
    await loadDocument();
  } catch (error) {
    if (visit.isOver) return;
    if (!error.isTransient) fail(error);
    else if (failures < TRIES) visit.later("document", backoffMs(failures + 2), () => followDocument(failures + 1));
  }
}

/** Calls while one is under way share it, and make it load once more at its end, so that the newest is seen. */
export function loadDocument() {
  if (loading) loading.again = true;
  else {
    loading = { again: true };
    loading.done = loadUntilNewest().finally(() => {
      loading = null;
    });
  }
  return loading.done;
}

async function loadUntilNewest() {
  while (loading.again && session.visit) {
    loading.again = false;
    const { visit, client } = session;
    const project = await client.project(visit.projectId);
    if (!visit.isOver) batch(() => takeProject(project));
  }
}

export function setUnfolded(pointer, isOpen) {
  state.unfolded.value = new Map(state.unfolded.value).set(pointer, isOpen);
}

/** Shows one of the panes beside the chat. */
export function showSide(name) {
  state.side.value = name;
}

/** Shows the chat or what stands beside it, where there is room for one. */
export function showTab(tab) {
  batch(() => {
    state.tab.value = tab;
    if (tab === "document") state.documentUnseen.value = false;
  });
}
