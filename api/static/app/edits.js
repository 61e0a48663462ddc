/**
 * Edits by hand, as patches, and how they are carried over to a document that others changed meanwhile. Pure.
 *
 * An edit is what a person began at a version: `{kind, pointer, base, version, …}`. `base` is the document of that version.
 */
import { pairs } from "./diff.js";
import { changesOf, differences } from "./differences.js";
import { applyPatch, sameJson } from "./patch.js";
import { below, isContainer, isIndex, lastToken, parentOf, resolve, tokensOf } from "./pointer.js";

/** The server takes no more operations in one patch. */
const MOST_OPERATIONS = 1000;

/** Makes the value at `pointer` another one: no operation where it is the same. */
export function changeValue(base, pointer, value) {
  const operations = differences(resolve(base, pointer), value, pointer);
  return operations.length > MOST_OPERATIONS ? [{ op: "replace", path: pointer, value }] : operations;
}

/** Puts a new member under `key`, or, into an array, a new item at its end. */
export function addMember(base, pointer, key, value) {
  const isList = Array.isArray(resolve(base, pointer));
  return [{ op: "add", path: isList ? `${pointer}/-` : below(pointer, key), value }];
}

export function removeAt(pointer) {
  return [{ op: "remove", path: pointer }];
}

export function renameKey(pointer, key) {
  const path = below(parentOf(pointer), key);
  return path === pointer ? [] : [{ op: "move", from: pointer, path }];
}

/** Moves an item of an array by one place: `step` is -1 or 1. Null where there is no such place. */
export function moveItem(base, pointer, step) {
  const list = pointer === "" ? null : resolve(base, parentOf(pointer));
  if (!Array.isArray(list)) return null;
  const to = Number(lastToken(pointer)) + step;
  if (to < 0 || to >= list.length) return null;
  return [{ op: "move", from: pointer, path: below(parentOf(pointer), to) }];
}

/** Where what stood at `pointer` in `before` stands in `after`, items followed as they moved; null where it is gone. */
export function carryPointer(pointer, before, after) {
  let carried = "";
  let old = before;
  let now = after;
  for (const token of tokensOf(pointer)) {
    if (!isContainer(old) || !isContainer(now) || Array.isArray(old) !== Array.isArray(now)) return null;
    const next = Array.isArray(old) ? carryIndex(token, old, now) : token;
    if (next === null || !Object.hasOwn(old, token) || !Object.hasOwn(now, next)) return null;
    old = old[token];
    now = now[next];
    carried = below(carried, next);
  }
  return carried;
}

function carryIndex(token, old, now) {
  if (old === now) return token;
  const index = pairs(old, now).indexOf(Number(token));
  return index === -1 ? null : String(index);
}

/**
 * An open edit after the document became `after`, at `version`. Where the value beneath is as it was, the edit goes on from
 * the new version; else it stays with the version that the person saw, and `beneath` tells what is there now:
 * `{exists, value}`.
 */
export function carryEdit(edit, after, version) {
  if (edit === null || edit.base === after) return edit;
  const pointer = carryPointer(edit.pointer, edit.base, after);
  if (pointer === null) return { ...edit, beneath: { exists: false } };
  const value = resolve(after, pointer);
  const isSame = edit.kind !== "value" || sameJson(value, resolve(edit.base, edit.pointer));
  if (isSame) return { ...edit, pointer, base: after, version, beneath: null };
  return { ...edit, beneath: { exists: true, value } };
}

/**
 * What a person is to decide on, after `operations`, made for `base`, were refused because the document is `newest` by
 * now: what both sides changed, `{theirs, mine, rebased, touches}`. `rebased` are the operations for `newest`, or null
 * where what they are about is gone; `touches`: both changed the same place.
 */
export function conflictBetween(base, newest, operations) {
  const theirs = changesOf(base, differences(base, newest));
  const mine = changesOf(base, operations);
  const rebased = rebase(operations, base, newest);
  const touches = rebased === null || operations.some((operation) => isTouched(operation, base, newest));
  return { theirs, mine, rebased, touches };
}

function isTouched({ op, path, from }, base, newest) {
  if (op === "add") {
    const isInsertion = path !== "" && Array.isArray(resolve(base, parentOf(path)));
    return !isInsertion && resolve(base, path) === undefined && resolve(newest, path) !== undefined;
  }
  const source = op === "move" ? from : path;
  return !sameJson(resolve(base, source), resolve(newest, carryPointer(source, base, newest)));
}

/** The operations with their pointers carried from `base` to `newest`; null where they don't apply there. */
export function rebase(operations, base, newest) {
  const carried = [];
  let last = null; // where the operation before put something into an array, in both documents
  for (const operation of operations) {
    const path = operation.op === "add" || operation.op === "move"
      ? carryPlace(operation.path, base, newest, last)
      : carryPointer(operation.path, base, newest);
    const from = operation.from === undefined ? undefined : carryPointer(operation.from, base, newest);
    if (path === null || from === null) return null;
    carried.push(from === undefined ? { ...operation, path } : { ...operation, path, from });
    last = operation.op === "add" ? { path: operation.path, carried: path } : null;
  }
  try {
    applyPatch(newest, carried);
  } catch {
    return null;
  }
  return carried;
}

/** Where something is to be put: its holder is followed, and, in an array, the item that it comes after. */
function carryPlace(path, base, newest, last) {
  if (path === "") return "";
  const token = lastToken(path);
  const holder = carryPointer(parentOf(path), base, newest);
  if (holder === null) return null;
  const list = resolve(base, parentOf(path));
  if (!Array.isArray(list) || !isIndex(token) || token === "0") return below(holder, token);
  if (!Array.isArray(resolve(newest, holder))) return null;
  const neighbour = below(parentOf(path), Number(token) - 1);
  if (last?.path === neighbour) return below(holder, Number(lastToken(last.carried)) + 1);
  const carried = carryPointer(neighbour, base, newest);
  return carried === null ? null : below(holder, Number(lastToken(carried)) + 1);
}
