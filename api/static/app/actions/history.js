/** The versions of the open project's document: listed, compared, looked at, taken back. */
import { batch } from "../../vendor/signals.js";
import { changesOf } from "../differences.js";
import { difference, documentAt, versionsOf, walkBack } from "../document_calls.js";
import * as state from "../state.js";
import { failInProject, loadDocument, showSide, showTab, takeProject } from "./document.js";
import { loadOlder } from "./messages.js";
import { announce, session } from "./session.js";

/** Loads versions that are newer than those listed, up to one that is known. */
export async function loadNewestVersions() {
  const { items, isLoading } = state.versions.value;
  if (isLoading || items[0]?.version === state.documentVersion.value) return;
  await load(null);
  if (state.versions.value.error === null) await loadNewestVersions(); // the document changed while they were loaded
}

export async function loadOlderVersions() {
  const { nextCursor, isLoading } = state.versions.value;
  if (!isLoading && nextCursor !== null) await load(nextCursor);
}

async function load(before) {
  const { visit, client } = session;
  change({ isLoading: true, error: null });
  try {
    const page = await versionsOf(client, visit.projectId, before);
    if (visit.isOver) return;
    const known = state.versions.value;
    const oldest = page.items.at(-1)?.version ?? 0;
    if (before !== null) change({ items: [...known.items, ...page.items], nextCursor: page.nextCursor });
    else if (known.items[0]?.version >= oldest - 1) {
      const fresh = page.items.filter(({ version }) => version > known.items[0].version);
      change({ items: [...fresh, ...known.items] });
    } else change({ items: page.items, nextCursor: page.nextCursor }); // too many are new: begin the list again
    if (page.items[0]?.version > state.documentVersion.value && before === null) await loadDocument();
    else if (before === null && (page.items[0]?.version ?? 1) < state.documentVersion.value) {
      change({ error: "The list could not be brought up to date." });
    }
  } catch (error) {
    if (visit.isOver) return;
    change({ error: error.message });
    if (!error.isTransient) failInProject(error);
  } finally {
    if (!visit.isOver) change({ isLoading: false });
  }
}

function change(fields) {
  state.versions.value = { ...state.versions.value, ...fields };
}

export function unfoldVersion(version) {
  state.openVersion.value = version;
}

/** Shows a version in the list, loading as far back as it takes. */
export async function showVersion(version) {
  batch(() => {
    showSide("history");
    showTab("document");
    state.openVersion.value = version;
  });
  const { visit } = session;
  await loadNewestVersions();
  while (!visit.isOver && !state.versions.value.items.some((item) => item.version === version)) {
    if (state.versions.value.nextCursor === null || state.versions.value.error !== null) return;
    await loadOlderVersions();
  }
}

/** Loads messages until the one with this id is there; whether it is. */
export async function findMessage(messageId) {
  const { visit } = session;
  showTab("chat");
  while (!visit.isOver && !state.messages.has(messageId) && state.olderCursor.value !== null) {
    const cursor = state.olderCursor.value;
    await loadOlder();
    if (state.olderCursor.value === cursor) return false; // it could not be loaded, and was said
  }
  return !visit.isOver && state.messages.has(messageId);
}

/** Shows the document as it was at a version. */
export async function lookAt(version) {
  const { visit, client } = session;
  batch(() => {
    state.documentNote.value = null;
    state.editing.value = null;
    state.conflict.value = null;
    state.lookingAt.value = { version, document: null };
    showSide("document");
  });
  try {
    const { document } = await documentAt(client, visit.projectId, version);
    if (visit.isOver || state.lookingAt.value?.version !== version) return;
    state.lookingAt.value = { version, document };
    announce(`This is the document as it was at version ${version}.`);
  } catch (error) {
    if (visit.isOver || state.lookingAt.value?.version !== version) return;
    batch(() => {
      state.lookingAt.value = null;
      note(error.message);
    });
  }
}

/** Shows the document as it is. */
export function backToNow() {
  state.lookingAt.value = null;
  announce("This is the document as it is now.");
}

export function endComparison() {
  state.comparison.value = null;
}

/** Chooses another version on one side of the comparison, "from" or "to". */
export function chooseCompared(side, version) {
  const { from, to } = { ...state.comparison.value, [side]: version };
  return compare(from, to);
}

/** Compares two versions. */
export async function compare(from, to) {
  const chosen = { from, to, changes: null, error: null };
  state.comparison.value = chosen;
  const { visit, client } = session;
  const isStill = () => !visit.isOver && state.comparison.value?.from === from && state.comparison.value?.to === to;
  try {
    const [former, { operations }] = await Promise.all([
      documentAt(client, visit.projectId, from),
      difference(client, visit.projectId, from, to),
    ]);
    if (isStill()) state.comparison.value = { ...chosen, changes: changesOf(former.document, operations) };
  } catch (error) {
    if (isStill()) state.comparison.value = { ...chosen, error: error.message };
  }
}

const DONE = { undo: "Undone.", redo: "Done again." };
const NOTHING = {
  nothing_to_undo: "There is nothing to undo.",
  nothing_to_redo: "There is nothing to redo: since the last undo, if there was one, the document was changed.",
};

/** Takes back the newest change ("undo"), whoever made it, or makes again what was undone last ("redo"). */
export async function walk(way) {
  if (!state.canEdit.value || state.editing.value) return;
  const { visit, client } = session;
  state.documentNote.value = null;
  try {
    const project = await walkBack(client, visit.projectId, way, state.documentVersion.value);
    if (visit.isOver) return;
    takeProject(project);
    announce(DONE[way]);
  } catch (error) {
    if (visit.isOver) return;
    if (error.status === 412) await showNewest(way);
    else if (error.status === 404 || error.status === 401) failInProject(error);
    else note(NOTHING[error.code] ?? wordsOf(error, way), error.errors);
  }
}

async function showNewest(way) {
  try {
    await loadDocument();
    note(`Somebody else changed the document meanwhile; this is the newest. To ${way} that, ask again.`);
  } catch (error) {
    failInProject(error);
  }
}

function wordsOf(error, way) {
  if (error.code === "patch_rejected") return `This can't be ${way === "undo" ? "undone" : "done again"} any more: ${error.message}`;
  if (error.code === "schema_violation") {
    return "The document would not fit the project's schema, which was changed since.";
  }
  return error.message;
}

function note(text, places = []) {
  state.documentNote.value = { isBad: true, text, places };
  announce(text);
}

export function dismissNote() {
  state.documentNote.value = null;
}
