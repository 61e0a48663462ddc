/**
 * What a change did to a document, place by place, as lines that went and lines that came. Pure.
 */

/** More places than these are counted, not shown; a value's lines beyond these are counted too. */
const PLACES_MOST = 50;
const LINES_MOST = 60;

/**
 * `{places: [{pointer, removed: [line], added: [line]}], more}`: the places where `before` and `after` differ, in the
 * document's order; `more` counts those that are left out. Members of objects and elements of arrays that are equal, or
 * equal by their `id`, stand for one another.
 */
export function changesBetween(before, after) {
  const places = [];
  compare(before, after, "", places);
  const shown = places.slice(0, PLACES_MOST).map(({ pointer, removed, added }) => ({
    pointer,
    removed: removed === undefined ? [] : lines(removed),
    added: added === undefined ? [] : lines(added),
  }));
  return { places: shown, more: places.length - shown.length };
}

function compare(before, after, pointer, places) {
  if (isObject(before) && isObject(after)) compareObjects(before, after, pointer, places);
  else if (Array.isArray(before) && Array.isArray(after)) compareArrays(before, after, pointer, places);
  else if (!isSame(before, after)) places.push({ pointer, removed: before, added: after });
}

function compareObjects(before, after, pointer, places) {
  for (const key of Object.keys(before)) {
    const inside = below(pointer, key);
    if (Object.hasOwn(after, key)) compare(before[key], after[key], inside, places);
    else places.push({ pointer: inside, removed: before[key] });
  }
  for (const key of Object.keys(after)) {
    if (!Object.hasOwn(before, key)) places.push({ pointer: below(pointer, key), added: after[key] });
  }
}

/** Pointers of what went are those of before, of all else those of after. */
function compareArrays(before, after, pointer, places) {
  const from = pairs(before, after);
  const kept = new Set(from.filter((index) => index !== undefined));
  before.forEach((value, index) => {
    if (!kept.has(index)) places.push({ pointer: below(pointer, index), removed: value });
  });
  let newest = -1;
  after.forEach((value, index) => {
    const inside = below(pointer, index);
    const source = from[index];
    if (source === undefined) places.push({ pointer: inside, added: value });
    else if (source < newest) places.push({ pointer: inside, removed: before[source], added: value }); // moved
    else {
      newest = source;
      compare(before[source], value, inside, places);
    }
  });
}

/** For each index of `after` the index of `before` that it continues, or undefined. */
function pairs(before, after) {
  if (haveIds(before) && haveIds(after)) {
    const indexes = new Map(before.map((value, index) => [value.id, index]));
    return after.map((value) => indexes.get(value.id));
  }
  const shorter = Math.min(before.length, after.length);
  let head = 0;
  while (head < shorter && isSame(before[head], after[head])) head += 1;
  let tail = 0;
  while (tail < shorter - head && isSame(before.at(-1 - tail), after.at(-1 - tail))) tail += 1;
  return after.map((_, index) => {
    if (index < head) return index;
    if (index >= after.length - tail) return index - after.length + before.length;
    return index < before.length - tail ? index : undefined;
  });
}

function haveIds(values) {
  const ids = values.map((value) => (isObject(value) ? value.id : undefined));
  return ids.every((id) => typeof id === "string" || typeof id === "number") && new Set(ids).size === ids.length;
}

function lines(value) {
  const all = JSON.stringify(value, null, 2).split("\n");
  if (all.length <= LINES_MOST) return all;
  return [...all.slice(0, LINES_MOST), `… ${all.length - LINES_MOST} more lines`];
}

function below(pointer, token) {
  return `${pointer}/${String(token).replaceAll("~", "~0").replaceAll("/", "~1")}`;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSame(left, right) {
  if (Object.is(left, right)) return true;
  if (typeof left !== "object" || typeof right !== "object" || left === null || right === null) return false;
  if (Array.isArray(left) !== Array.isArray(right)) return false;
  const keys = Object.keys(left);
  if (keys.length !== Object.keys(right).length) return false;
  return keys.every((key) => Object.hasOwn(right, key) && isSame(left[key], right[key]));
}
