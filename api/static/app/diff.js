/**
 * What changed between two JSON documents, as JSON Pointers (RFC 6901) into the newer one. Pure.
 */
import { sameJson } from "./patch.js";
import { below } from "./pointer.js";

/**
 * A map from pointer to "added", "changed" (its value is another one), "moved" or "shrunk" (something that it held is gone).
 * Members of an array that are objects with an `id` are matched by it, wherever they moved; other arrays are matched
 * from both ends, so that one inserted element is one addition and not a change of all that follow.
 */
export function changedPointers(before, after) {
  const changes = new Map();
  compare(before, after, "", changes);
  return changes;
}

function compare(before, after, pointer, changes) {
  if (Object.is(before, after)) return;
  if (Array.isArray(before) && Array.isArray(after)) compareArrays(before, after, pointer, changes);
  else if (isObject(before) && isObject(after)) compareObjects(before, after, pointer, changes);
  else changes.set(pointer, "changed");
}

function compareObjects(before, after, pointer, changes) {
  for (const key of Object.keys(after)) {
    const child = below(pointer, key);
    if (Object.hasOwn(before, key)) compare(before[key], after[key], child, changes);
    else changes.set(child, "added");
  }
  if (Object.keys(before).some((key) => !Object.hasOwn(after, key))) changes.set(pointer, "shrunk");
}

function compareArrays(before, after, pointer, changes) {
  const partners = pairs(before, after);
  let kept = 0;
  let furthest = -1;
  after.forEach((value, index) => {
    const partner = partners[index];
    const child = `${pointer}/${index}`;
    if (partner === undefined) {
      changes.set(child, "added");
      return;
    }
    kept += 1;
    if (partner < furthest) changes.set(child, "moved");
    furthest = Math.max(furthest, partner);
    compare(before[partner], value, child, changes);
  });
  if (kept < before.length) changes.set(pointer, "shrunk");
}

/** For each index of the array `after` the index in `before` that it continues, or undefined. */
export function pairs(before, after) {
  return identified(before) && identified(after) ? pairById(before, after) : pairByEnds(before, after);
}

function pairById(before, after) {
  const indexes = new Map(before.map((value, index) => [value.id, index]));
  return after.map((value) => indexes.get(value.id));
}

function pairByEnds(before, after) {
  const shorter = Math.min(before.length, after.length);
  let head = 0;
  while (head < shorter && sameJson(before[head], after[head])) head += 1;
  let tail = 0;
  while (tail < shorter - head && sameJson(before[before.length - 1 - tail], after[after.length - 1 - tail])) tail += 1;
  const surplus = after.length - before.length;
  return after.map((_, index) => {
    if (index < head) return index;
    if (index >= after.length - tail) return index - surplus;
    return index < before.length - tail ? index : undefined;
  });
}

function identified(values) {
  const ids = values.map((value) => (isObject(value) ? value.id : undefined));
  return ids.every((id) => typeof id === "string" || typeof id === "number") && new Set(ids).size === ids.length;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
