/** How somebody looks at the figures: which part of the hour, in which order, and what was read. */
import * as state from "../state.js";

export function dismissGap() {
  state.gap.value = null;
}

export function chooseRange(range) {
  state.range.value = range;
}

export function chooseGrouping(grouping) {
  state.grouping.value = grouping;
}
