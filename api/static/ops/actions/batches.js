/** Batches: listing them, following one, pausing, resuming and stopping it, and its report. */
import * as state from "../state.js";
import { announce, isOver, session } from "./session.js";

const FOLLOWED_EVERY_MS = 1000;

let timer = null;

/** Loads the newest batches. */
export function loadBatches() {
  state.batches.value = { items: null, cursor: null, isLoading: false, error: null };
  return load(null);
}

export function moreBatches() {
  return load(state.batches.value.cursor);
}

async function load(before) {
  const mark = { ...state.batches.value, isLoading: true, error: null };
  state.batches.value = mark;
  try {
    const { items, nextCursor } = await session.client.batches(before);
    if (state.batches.value !== mark) return;
    state.batches.value = { items: [...(mark.items ?? []), ...items], cursor: nextCursor, isLoading: false, error: null };
  } catch (error) {
    if (state.batches.value !== mark || isOver(error)) return;
    state.batches.value = { ...mark, isLoading: false, error: error.message };
  }
}

/** Shows a batch, and how it goes on while it is looked at and not over. */
export async function loadBatch(id) {
  clearTimeout(timer);
  if (state.batch.value.id !== id) state.batch.value = { id, report: null, error: null, isBusy: false, problem: null };
  try {
    const report = await session.client.batch(id);
    if (!isLookedAt(id)) return;
    const before = state.batch.value.report;
    state.batch.value = { ...state.batch.value, report, error: null };
    if (before !== null && before.endedAt === null && report.endedAt !== null) announce("The batch is over.");
    if (report.endedAt === null) follow(id);
  } catch (error) {
    if (!isLookedAt(id) || isOver(error)) return;
    state.batch.value = { ...state.batch.value, error: error.status === 404 ? "There is no such batch." : error.message };
    if (error.isTransient) follow(id);
  }
}

function follow(id) {
  clearTimeout(timer);
  timer = setTimeout(() => isLookedAt(id) && loadBatch(id), FOLLOWED_EVERY_MS);
}

function isLookedAt(id) {
  const { view, id: shown } = state.route.value;
  return session.client !== null && view === "batch" && shown === id;
}

const DONE = { pause: "The batch is paused.", resume: "The batch goes on.", stop: "The batch is stopped." };

/** `act`: pause, resume or stop. */
export async function changeBatch(id, act) {
  state.batch.value = { ...state.batch.value, isBusy: true, problem: null };
  let problem = null;
  try {
    await session.client.changeBatch(id, act);
    announce(DONE[act]);
  } catch (error) {
    if (isOver(error)) return;
    problem = error.message;
  }
  if (!isLookedAt(id)) return;
  state.batch.value = { ...state.batch.value, isBusy: false, problem };
  await loadBatch(id);
}

/** Saves the batch's report as a file. */
export async function saveReport(id) {
  try {
    const text = await session.client.batchReport(id);
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = `batch-${id}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 0);
  } catch (error) {
    if (!isOver(error) && isLookedAt(id)) state.batch.value = { ...state.batch.value, problem: error.message };
  }
}
