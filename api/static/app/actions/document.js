/** The open project's document: loading it, following its changes, and lighting up what changed. */
import { batch } from "../../vendor/signals.js";
import { backoffMs } from "../client.js";
import { changedPointers } from "../diff.js";
import { carryEdit } from "../edits.js";
import { applyPatch } from "../patch.js";
import { ancestors } from "../pointer.js";
import * as state from "../state.js";
import { announce, fail, leaveWithdrawn, session } from "./session.js";

const LIT_MS = 5000;
const TRIES = 8;
/** So many changed places at most are unfolded. */
const UNFOLDED_MOST = 100;

/** The loading that is under way; `again` where it is to be repeated at its end. */
let loading = null;
/** The document as it was before the first of the changes that are lit. */
let litBase = null;

/** Takes a project as the server answered it; one that is older than what is shown is dropped. */
export function takeProject(project) {
  const { document: value, ...rest } = project;
  const isFirst = state.project.value?.id !== project.id;
  if (!isFirst && project.version < state.documentVersion.value) return;
  batch(() => {
    state.project.value = rest;
    if (isFirst) {
      litBase = null;
      state.documentVersion.value = project.version;
      state.documentValue.value = value;
    } else showDocument(value, project.version);
  });
}

/**
 * Takes one change of the document, `{version, operations, messageId?}`, as the project's channel tells it. The next one is
 * applied to what is shown; one that is known does nothing; with one missing in between, the document is loaded.
 */
export function takeDocument(change) {
  if (state.documentVersion.value === null) return; // it is being loaded for the first time
  if (change.messageId) noteMessageVersion(change.messageId, change.version);
  if (change.version <= state.documentVersion.value) return;
  if (change.version > state.documentVersion.value + 1) {
    followDocument();
    return;
  }
  try {
    const value = applyPatch(state.documentValue.value, change.operations);
    batch(() => {
      state.project.value = { ...state.project.value, version: change.version };
      showDocument(value, change.version);
    });
  } catch {
    followDocument(); // what is shown is not what the change was made for
  }
}

function noteMessageVersion(messageId, version) {
  const known = state.messageVersions.value.get(messageId) ?? [];
  if (known.includes(version)) return;
  state.messageVersions.value = new Map(state.messageVersions.value).set(messageId, [...known, version]);
}

/** Shows a newer version of the same document; an open edit goes along. */
function showDocument(value, version) {
  const before = state.documentValue.value;
  const changes = changedPointers(before, value);
  state.documentVersion.value = version;
  if (changes.size) state.documentValue.value = value;
  state.editing.value = carryEdit(state.editing.value, state.documentValue.value, version);
  if (changes.size) light(before, value);
}

/** Lights up what changed since nothing was lit, and unfolds what the change lies in. */
function light(before, value) {
  litBase ??= before;
  const changes = changedPointers(litBase, value);
  const unfolded = new Map(state.unfolded.value);
  for (const [pointer, kind] of [...changes].slice(0, UNFOLDED_MOST)) {
    for (const above of ancestors(pointer)) unfolded.set(above, true);
    if (kind === "added") unfolded.set(pointer, true);
  }
  state.unfolded.value = unfolded;
  state.lit.value = changes;
  if (state.tab.value === "chat") state.documentUnseen.value = true;
  announce(`The document changed in ${changes.size === 1 ? "one place" : `${changes.size} places`}.`);
  session.visit.later("unlight", LIT_MS, () => {
    litBase = null;
    state.lit.value = new Map();
  });
}

/** Loads the document because somebody asked for it. */
export async function refreshDocument() {
  const { visit } = session;
  try {
    await loadDocument();
  } catch (error) {
    if (!visit.isOver) failInProject(error);
  }
}

/** Loads the document because it changed; where the server can't be reached, later, without a word. */
export async function followDocument(failures = 0) {
  const { visit } = session;
  try {
    await loadDocument();
  } catch (error) {
    if (visit.isOver) return;
    if (!error.isTransient) failInProject(error);
    else if (failures < TRIES) visit.later("document", backoffMs(failures + 2), () => followDocument(failures + 1));
  }
}

/** Says what went wrong; who is no member any more leaves the project. */
export function failInProject(error) {
  if (error.status === 404) leaveWithdrawn();
  else fail(error);
}

/**
 * Loads the document; throws what the server refused. Calls while one is under way share it, and make it load once more at
 * its end, so that the newest is seen.
 */
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
    if (!visit.isOver) takeProject(project);
  }
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
