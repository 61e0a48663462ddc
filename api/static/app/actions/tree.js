/** Moving about in the document: what is selected, unfolded, searched for. */
import { batch } from "../../vendor/signals.js";
import { ancestors, below, isContainer, lastToken, parentOf, resolve } from "../pointer.js";
import * as state from "../state.js";
import { announce } from "./session.js";

/** Members of one object or array that are shown before the reader asks for the rest. */
export const SHOWN_FIRST = 100;
/** Containers down to this depth are open from the start. */
export const OPEN_DEPTH = 2;
/** Unfolding everything below a place shows so many parts at most; what is deeper stays folded. */
const UNFOLDED_MOST = 1500;

/** Whether the container at `pointer` is open. */
export function isUnfolded(pointer) {
  return state.unfolded.value.get(pointer) ?? depthOf(pointer) < OPEN_DEPTH;
}

function depthOf(pointer) {
  return pointer.split("/").length - 1;
}

export function setUnfolded(pointer, isOpen) {
  batch(() => {
    state.unfolded.value = new Map(state.unfolded.value).set(pointer, isOpen);
    if (!isOpen && state.selected.value.startsWith(`${pointer}/`)) state.selected.value = pointer;
  });
}

/** Opens or closes the container and all that it holds. */
export function setAllUnfolded(pointer, isOpen) {
  const unfolded = new Map(state.unfolded.value);
  const waiting = [[pointer, resolve(state.shownDocument.value, pointer)]];
  let shown = 0;
  for (let next = 0; next < waiting.length; next += 1) {
    const [at, value] = waiting[next];
    if (!isContainer(value)) continue;
    const keys = Object.keys(value);
    shown += Math.min(keys.length, SHOWN_FIRST);
    unfolded.set(at, isOpen && shown <= UNFOLDED_MOST);
    for (const key of keys) waiting.push([below(at, key), value[key]]);
  }
  batch(() => {
    state.unfolded.value = unfolded;
    if (!isOpen && state.selected.value.startsWith(`${pointer}/`)) state.selected.value = pointer;
  });
  if (isOpen && shown > UNFOLDED_MOST) announce("This is large: its deepest parts stay folded.");
}

/** Shows more members of a container that has very many. */
export function showMore(pointer) {
  const extent = state.extents.value.get(pointer) ?? SHOWN_FIRST;
  state.extents.value = new Map(state.extents.value).set(pointer, extent + 5 * SHOWN_FIRST);
}

/** Selects a part of the document; `focuses`: and gives it the focus. */
export function select(pointer, { focuses = false } = {}) {
  batch(() => {
    state.selected.value = pointer;
    if (focuses) state.treeFocus.value += 1;
  });
}

/** Unfolds what the place lies in, and shows so many members that it is among them. */
export function reveal(pointer) {
  const unfolded = new Map(state.unfolded.value);
  const extents = new Map(state.extents.value);
  for (const above of ancestors(pointer)) unfolded.set(above, true);
  for (const at of [...ancestors(pointer), pointer]) {
    if (at === "") continue;
    const holder = resolve(state.shownDocument.value, parentOf(at));
    if (!isContainer(holder)) continue;
    const index = Object.keys(holder).indexOf(lastToken(at));
    if (index >= (extents.get(parentOf(at)) ?? SHOWN_FIRST)) extents.set(parentOf(at), index + SHOWN_FIRST);
  }
  batch(() => {
    state.unfolded.value = unfolded;
    state.extents.value = extents;
  });
}

/** Searches the document; the first place found is shown. */
export function searchFor(text) {
  state.search.value = { text, at: 0 };
  showMatch();
}

/** Goes to the next place found, or the one before; round at the ends. */
export function stepMatch(step) {
  const count = state.matches.value.length;
  if (count === 0) return;
  state.search.value = { ...state.search.value, at: (state.search.value.at + step + count) % count };
  showMatch();
}

function showMatch() {
  const pointer = state.currentMatch.value;
  if (pointer === null) return;
  batch(() => {
    reveal(pointer);
    select(pointer);
  });
}
