/** Finding messages by what they are, ticking some, and having them answered again as a batch. */
import { newKey } from "../../app/client.js";
import { messagesAddress } from "../route.js";
import * as state from "../state.js";
import { serverNowMs } from "./live.js";
import { announce, isOver, session } from "./session.js";

const PAGE = 50;
/** Pages that are looked through at once where nothing is found: one page is chosen from a bounded number of rows. */
const MOST_EMPTY_PAGES = 20;
const UNITS_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** The statuses of which a batch may be, as the API has it. */
export const OF_BATCHES = ["error", "cancelled", "pending", "building"];

/** Names the filters in the address, which has them looked for. */
export function search(filters) {
  const address = messagesAddress(filters);
  if (location.hash === address) find(filters);
  else location.hash = address;
}

/** Loads the first page of what passes the filters. */
export function find(filters) {
  state.ticked.value = new Set();
  state.draft.value = null;
  state.found.value = { items: null, cursor: null, isLoading: false, error: null };
  return load(filters, null);
}

export function findMore() {
  return load(state.route.value.filters, state.found.value.cursor);
}

async function load(filters, before) {
  const client = session.client;
  const mark = { ...state.found.value, isLoading: true, error: null };
  state.found.value = mark;
  try {
    const items = [];
    let cursor = before;
    for (let page = 0; page < MOST_EMPTY_PAGES && items.length === 0; page += 1) {
      const answer = await client.anyMessages({ ...asked(filters), limit: PAGE, before: cursor });
      if (state.found.value !== mark) return;
      items.push(...answer.items);
      cursor = answer.nextCursor;
      if (cursor === null) break;
    }
    state.found.value = { items: [...(mark.items ?? []), ...items], cursor, isLoading: false, error: null };
  } catch (error) {
    if (state.found.value !== mark || isOver(error)) return;
    state.found.value = { ...mark, isLoading: false, error: wordsOf(error) };
  }
}

/** The filters as the API takes them. */
function asked({ status, code, project, model, since, slowerThan }) {
  const given = { status, code, project, model, since: since && sinceMoment(since), slowerThan };
  return Object.fromEntries(Object.entries(given).map(([name, value]) => [name, value || null]));
}

/** `15m`, `6h` or `7d` ago as a time. */
function sinceMoment(since) {
  const [, number, unit] = /^(\d{1,4})([mhd])$/.exec(since) ?? [null, "1", "h"];
  return new Date(serverNowMs() - Number(number) * UNITS_MS[unit]).toISOString();
}

// --- ticking and batches ---

export function tick(id, isTicked) {
  const ticked = new Set(state.ticked.value);
  if (isTicked) ticked.add(id);
  else ticked.delete(id);
  state.ticked.value = ticked;
}

export function tickAll(isTicked) {
  state.ticked.value = new Set(isTicked ? state.found.value.items.map(({ id }) => id) : []);
}

/** Asks what a batch of the ticked messages, or, where none is, of all that pass the filters, would be made of. */
export async function explain({ includePoison = false } = {}) {
  const { status, code, project, model, since } = state.route.value.filters;
  const ticked = [...state.ticked.value];
  const wanted = ticked.length
    ? { status, messages: ticked }
    : { status, code: code || undefined, project: project || undefined, model: model || undefined };
  if (!ticked.length && since) wanted.since = sinceMoment(since);
  if (includePoison) wanted.includePoison = true;
  const draft = { wanted, key: newKey(), explanation: null, error: null, isBusy: true };
  state.draft.value = draft;
  try {
    const { explanation } = await session.client.reprocess({ ...wanted, dryRun: true });
    if (state.draft.value === draft) state.draft.value = { ...draft, explanation, isBusy: false };
    announce(`The dry run found ${explanation.matched} messages.`);
  } catch (error) {
    if (!isOver(error) && state.draft.value === draft) state.draft.value = { ...draft, isBusy: false, error: wordsOf(error) };
  }
}

export function dropDraft() {
  state.draft.value = null;
}

/** Starts the batch that was explained, and shows it. The same draft never makes two. */
export async function startBatch(rate) {
  const draft = { ...state.draft.value, isBusy: true, error: null };
  state.draft.value = draft;
  try {
    const { batchId } = await session.client.reprocess({ ...draft.wanted, rate: rate || undefined }, draft.key);
    if (state.draft.value === draft) state.draft.value = null;
    location.hash = `#batch=${batchId}`;
  } catch (error) {
    if (!isOver(error) && state.draft.value === draft) state.draft.value = { ...draft, isBusy: false, error: wordsOf(error) };
  }
}

function wordsOf(error) {
  const field = error.errors?.[0];
  return field ? `${error.message} (${field.path}: ${field.message})` : error.message;
}
