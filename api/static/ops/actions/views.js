/** Loading what the address names. */
import * as state from "../state.js";
import { loadBatch, loadBatches } from "./batches.js";
import { find } from "./finding.js";
import { loadMessage } from "./message.js";

/** Loads what is to be shown; the address was read before. */
export function show() {
  const { view, id, filters } = state.route.value;
  if (view === "message") loadMessage(id);
  if (view === "messages") find(filters);
  if (view === "batches") loadBatches();
  if (view === "batch") loadBatch(id);
}
