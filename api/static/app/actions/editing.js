/** Changing the document by hand: what a person edits, storing it, and settling it with what others changed meanwhile. */
import { batch } from "../../vendor/signals.js";
import { patchDocument } from "../document_calls.js";
import { addMember, changeValue, conflictBetween, moveItem, removeAt, renameKey } from "../edits.js";
import { parseJsonText } from "../json_text.js";
import { below, isContainer, lastToken, parentOf, resolve } from "../pointer.js";
import * as state from "../state.js";
import { failInProject, loadDocument, takeProject } from "./document.js";
import { announce, session } from "./session.js";
import { reveal, select, setUnfolded } from "./tree.js";

/** The types of a value that a person chooses from. */
export const TYPES = ["text", "number", "true", "false", "null", "JSON"];

/** Begins to change the value at `pointer`. */
export function editValue(pointer) {
  const value = resolve(state.documentValue.value, pointer);
  begin("value", pointer, { type: typeOf(value), text: textOf(value) });
}

/** Begins to add a member to the object, or an item to the array, at `pointer`. */
export function editAddition(pointer) {
  setUnfolded(pointer, true);
  begin("add", pointer, { type: "text", text: "" });
}

/** Begins to rename the key at `pointer`. */
export function editKey(pointer) {
  begin("rename", pointer, { key: lastToken(pointer) });
}

function begin(kind, pointer, fields) {
  if (!state.canEdit.value) return;
  const edit = {
    kind,
    pointer,
    base: state.documentValue.value,
    version: state.documentVersion.value,
    type: "text",
    text: "",
    key: "",
    beneath: null,
    problem: null,
    isBusy: false,
    ...fields,
  };
  batch(() => {
    reveal(pointer);
    select(pointer);
    state.conflict.value = null;
    state.documentNote.value = null;
    state.editing.value = edit;
  });
}

/** Changes what is typed: any of `type`, `text`, `key`. */
export function changeEdit(fields) {
  const edit = { ...state.editing.value, ...fields, problem: null };
  if (fields.type === "JSON" && state.editing.value.type === "text") edit.text = JSON.stringify(edit.text);
  state.editing.value = edit;
}

/** Leaves the edit without storing anything. */
export function cancelEdit() {
  const { pointer } = state.editing.value;
  batch(() => {
    state.editing.value = null;
    state.conflict.value = null;
    select(resolve(state.documentValue.value, pointer) === undefined ? "" : pointer, { focuses: true });
  });
}

/** Stores the edit. */
export async function saveEdit() {
  const edit = state.editing.value;
  let operations;
  try {
    operations = operationsOf(edit);
  } catch (error) {
    state.editing.value = { ...edit, problem: { detail: error.message, places: [] } };
    return;
  }
  if (operations.length === 0) cancelEdit();
  else await store(operations, edit.base, edit.version, edit);
}

/** The patch that the edit is. Throws an Error whose message tells what is wrong with what was typed. */
function operationsOf(edit) {
  const { kind, pointer, base, key } = edit;
  if (kind === "rename") {
    if (Object.hasOwn(resolve(base, parentOf(pointer)), key) && key !== lastToken(pointer)) {
      throw new Error(`There is a “${key}” already.`);
    }
    return renameKey(pointer, key);
  }
  const value = typedValue(edit);
  if (kind === "value") {
    if (pointer === "" && !isContainer(value)) throw new Error("The document is an object or an array.");
    return changeValue(base, pointer, value);
  }
  const holder = resolve(base, pointer);
  if (!Array.isArray(holder) && Object.hasOwn(holder, key)) throw new Error(`There is a “${key}” already.`);
  return addMember(base, pointer, key, value);
}

function typedValue({ type, text }) {
  switch (type) {
    case "text":
      return text;
    case "number": {
      const value = parseJsonText(text);
      if (typeof value !== "number") throw new Error("This is not a number.");
      return value;
    }
    case "JSON":
      return parseJsonText(text);
    default:
      return JSON.parse(type);
  }
}

function typeOf(value) {
  if (isContainer(value)) return "JSON";
  return typeof value === "string" ? "text" : typeof value === "number" ? "number" : String(value);
}

function textOf(value) {
  if (typeof value === "string") return value;
  return isContainer(value) ? JSON.stringify(value, null, 2) : typeof value === "number" ? String(value) : "";
}

/** Takes away what is at `pointer`. */
export function removePart(pointer) {
  return storeAtOnce(removeAt(pointer), parentOf(pointer), "Removed.");
}

/** Moves the item at `pointer` by one place, up (-1) or down (1); does nothing at the ends. */
export async function movePart(pointer, step) {
  const operations = moveItem(state.documentValue.value, pointer, step);
  if (operations) await storeAtOnce(operations, operations[0].path, "Moved.");
}

async function storeAtOnce(operations, selectedAfter, words) {
  if (!state.canEdit.value) return;
  const isStored = await store(operations, state.documentValue.value, state.documentVersion.value, null);
  if (!isStored) return;
  select(selectedAfter, { focuses: true });
  announce(words);
}

/** Sends the operations, made for `base`, the document of `version`; whether they are stored. */
async function store(operations, base, version, edit) {
  const { visit, client } = session;
  batch(() => {
    state.documentNote.value = null;
    if (edit) state.editing.value = { ...edit, isBusy: true, problem: null };
  });
  try {
    const project = await patchDocument(client, visit.projectId, operations, version);
    if (visit.isOver) return false;
    batch(() => {
      state.conflict.value = null;
      if (edit) endEdit(edit, operations);
      takeProject(project);
    });
    return true;
  } catch (error) {
    if (visit.isOver) return false;
    if (edit) state.editing.value = { ...(state.editing.value ?? edit), isBusy: false };
    if (error.status === 412) await showConflict(operations, base, edit);
    else refuse(error, operations, edit);
    return false;
  }
}

function endEdit({ kind, pointer, key }, operations) {
  const added = kind === "add" && operations[0].path.endsWith("/-") ? pointer : below(pointer, key);
  const after = { value: pointer, add: added, rename: kind === "rename" ? below(parentOf(pointer), key) : "" };
  state.editing.value = null;
  select(after[kind], { focuses: true });
  announce("Stored.");
}

/** Says why the server would not have it: at the editor, or over the document. */
function refuse(error, operations, edit) {
  if (error.status === 404 || error.status === 401) {
    failInProject(error);
    return;
  }
  const problem = problemOf(error, operations);
  if (error.status === 403) loadDocument().catch(() => {}); // with the role that the user has by now
  if (edit && state.editing.value) state.editing.value = { ...state.editing.value, problem };
  else state.documentNote.value = { isBad: true, text: problem.detail, places: problem.places };
  announce(problem.detail);
}

function problemOf(error, operations) {
  const failing = error.index === null ? undefined : operations[error.index];
  const which = failing && operations.length > 1 ? ` (${failing.op} ${failing.path})` : "";
  return { detail: `Not stored: ${error.message}${which}`, places: error.errors };
}

/** Shows what others changed since `base` beside what was to be stored. */
async function showConflict(operations, base, edit) {
  const { visit } = session;
  try {
    await loadDocument();
  } catch (error) {
    if (!visit.isOver) refuse(error, operations, edit);
    return;
  }
  if (visit.isOver) return;
  const version = state.documentVersion.value;
  const found = conflictBetween(base, state.documentValue.value, operations);
  state.conflict.value = { ...found, version, document: state.documentValue.value, hasEdit: edit !== null };
  announce("Not stored: somebody else changed the document meanwhile. Choose what is to be.");
}

/** Stores what the person changed, carried over to the document as others made it. */
export async function applyMine() {
  const { rebased, document, version } = state.conflict.value;
  const edit = state.editing.value;
  state.conflict.value = null;
  await store(rebased, document, version, edit && { ...edit, pointer: carriedPlace(edit, rebased) });
}

/** Where an edit's place is in the newer document, told by the operations that were carried over. */
function carriedPlace(edit, [first]) {
  if (edit.kind === "rename") return first.from;
  return edit.kind === "add" ? parentOf(first.path) : edit.pointer;
}

/** Gives up what the person changed. */
export function keepTheirs() {
  if (state.editing.value) cancelEdit();
  state.conflict.value = null;
}

/** Back to the editor, which now is about the newest document; where its place is gone, it says so. */
export function goOnEditing() {
  const { version, document } = state.conflict.value;
  const edit = state.editing.value;
  const isThere = resolve(document, edit.pointer) !== undefined;
  batch(() => {
    state.conflict.value = null;
    state.editing.value = isThere ? { ...edit, version, base: document } : edit;
  });
}
