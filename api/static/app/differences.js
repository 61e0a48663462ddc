/**
 * The operations (RFC 6902) between two documents, and what operations did at each place. Pure.
 *
 * The same rule as the server's `diff`: ends that two arrays have in common are kept, what is between is compared place by
 * place.
 */
import { applyPatch, sameJson } from "./patch.js";
import { below, isContainer, isIndex, lastToken, parentOf, resolve } from "./pointer.js";

/** The server takes no longer pointers. */
const MOST_SEGMENTS = 16;

/** A patch that makes `after` of `before`, both at `pointer`. */
export function differences(before, after, pointer = "") {
  const operations = [];
  compare(before, after, pointer, pointer.split("/").length - 1, operations);
  return operations;
}

function compare(before, after, pointer, segments, operations) {
  if (sameJson(before, after)) return;
  const isDeep = segments >= MOST_SEGMENTS;
  const areBoth = isContainer(before) && isContainer(after) && Array.isArray(before) === Array.isArray(after);
  if (!areBoth || isDeep) operations.push({ op: "replace", path: pointer, value: after });
  else if (Array.isArray(before)) compareArrays(before, after, pointer, segments + 1, operations);
  else compareObjects(before, after, pointer, segments + 1, operations);
}

function compareObjects(before, after, pointer, segments, operations) {
  for (const key of Object.keys(before)) {
    if (!Object.hasOwn(after, key)) operations.push({ op: "remove", path: below(pointer, key) });
  }
  for (const [key, value] of Object.entries(after)) {
    if (Object.hasOwn(before, key)) compare(before[key], value, below(pointer, key), segments, operations);
    else operations.push({ op: "add", path: below(pointer, key), value });
  }
}

function compareArrays(before, after, pointer, segments, operations) {
  const shorter = Math.min(before.length, after.length);
  let start = 0;
  while (start < shorter && sameJson(before[start], after[start])) start += 1;
  let tail = 0;
  while (tail < shorter - start && sameJson(before.at(-1 - tail), after.at(-1 - tail))) tail += 1;
  const both = shorter - tail;
  for (let index = start; index < both; index += 1) {
    compare(before[index], after[index], `${pointer}/${index}`, segments, operations);
  }
  for (let index = before.length - tail - 1; index >= both; index -= 1) {
    operations.push({ op: "remove", path: `${pointer}/${index}` });
  }
  for (let index = both; index < after.length - tail; index += 1) {
    operations.push({ op: "add", path: `${pointer}/${index}`, value: after[index] });
  }
}

/**
 * What each operation does to `document`, in order: `{kind, pointer, from?, before?, after?}`, kind one of added, removed,
 * changed, moved and copied. `before` and `after` are there where a value went or came. Throws PatchFailed.
 */
export function changesOf(document, operations) {
  const changes = [];
  let at = document;
  for (const operation of operations) {
    const change = changeOf(operation, resolve(at, operation.path), at);
    at = applyPatch(at, [operation]);
    if (change) changes.push(change);
  }
  return changes;
}

/**
 * The same of a version as the server lists it: what went, and where an array's end (`-`) was, is told by its inverse, which
 * goes the way back.
 */
export function changesOfVersion({ operations, inverse }) {
  const gone = new Map();
  for (const undo of inverse) if (undo.op === "add" || undo.op === "replace") gone.set(undo.path, undo.value);
  const before = (pointer) => {
    if (gone.has(pointer)) return gone.get(pointer);
    return gone.has("") ? resolve(gone.get(""), pointer) : undefined;
  };
  const changing = operations.filter(({ op }) => op !== "test");
  const undone = changing.length === inverse.length ? inverse.toReversed() : [];
  const placed = changing.map((operation, index) => ({ ...operation, path: placeOf(operation.path, undone[index]) }));
  return placed.map((operation) => changeOf(operation, before(operation.path), null)).filter(Boolean);
}

/** Where an array's end was, as the operation that takes the new item away again tells it. */
function placeOf(path, undo) {
  if (!path.endsWith("/-")) return path;
  const place = undo?.from ?? undo?.path;
  return place !== undefined && parentOf(place) === parentOf(path) && isIndex(lastToken(place)) ? place : path;
}

function changeOf({ op, path, from, value }, before, holderDocument) {
  switch (op) {
    case "add":
      // into an array it shifts what stood there, and takes nothing away
      return isInsertion(path, holderDocument) || before === undefined
        ? { kind: "added", pointer: path, after: value }
        : { kind: "changed", pointer: path, before, after: value };
    case "replace":
      return { kind: "changed", pointer: path, before, after: value };
    case "remove":
      return { kind: "removed", pointer: path, before };
    case "move":
      return { kind: "moved", pointer: path, from };
    case "copy":
      return { kind: "copied", pointer: path, from };
    default:
      return null; // a test changes nothing
  }
}

function isInsertion(pointer, document) {
  if (pointer === "") return false;
  if (document !== null) return Array.isArray(resolve(document, parentOf(pointer)));
  const token = lastToken(pointer);
  return token === "-" || isIndex(token);
}

/** One change in a few words. */
export function changeInWords({ kind, pointer, from }) {
  const place = pointer === "" ? "the whole document" : pointer;
  switch (kind) {
    case "moved":
      return isRename(from, pointer) ? `Renamed ${from} to ${lastToken(pointer)}` : `Moved ${from} to ${place}`;
    case "copied":
      return `Copied ${from} to ${place}`;
    default:
      return `${kind[0].toUpperCase()}${kind.slice(1)} ${place}`;
  }
}

function isRename(from, pointer) {
  return parentOf(from) === parentOf(pointer) && !isIndex(lastToken(pointer));
}

/** All of them in a line: the first, and how many more. */
export function summaryOf(changes) {
  if (changes.length === 0) return "Changed nothing";
  const more = changes.length - 1;
  const first = changeInWords(changes[0]);
  return more === 0 ? first : `${first} and ${more === 1 ? "one place" : `${more} places`} more`;
}
