/**
 * What was seen of the last hour, in steps of two seconds: ends by status and code, how long they took, samples of the
 * queue. However long it is kept and however much happens, it takes the same memory. Pure.
 *
 * A step is *known* where somebody listened; where nobody did, there is a gap, not a zero.
 */

export const STEP_MS = 2000;
export const STEPS = 1800;
export const STATUSES = ["success", "error", "cancelled"];
/** Error codes that are told apart; what is beyond is counted as `other`. */
const MOST_CODES = 24;
export const OTHER = "other";

/** Durations are kept as counts in bins, each a tenth wider than the one before: a percentile is right to five per cent. */
const BIN_RATIO = 1.1;
const BINS = 168;
/** Samples of the queue are good for so many steps. */
const SAMPLE_STEPS = 10;

export class History {
  constructor() {
    /** The newest step's number, counted from the epoch; null before anything was told. */
    this.newest = null;
    this.known = new Uint8Array(STEPS);
    this.ended = Object.fromEntries(STATUSES.map((status) => [status, new Uint32Array(STEPS)]));
    this.codes = new Map();
    this.durations = { firstToken: new Uint16Array(STEPS * BINS), total: new Uint16Array(STEPS * BINS) };
    this.samples = { waiting: gaps(), building: gaps(), oldestMs: gaps() };
  }

  /** Counts an end. Times are ms since the epoch, durations ms or null. */
  end(atMs, { status, code = null, firstTokenMs = null, totalMs = null }) {
    const slot = this.slot(atMs);
    if (slot === null || this.ended[status] === undefined) return;
    this.ended[status][slot] += 1;
    if (status === "error") this.ofCode(code ?? OTHER)[slot] += 1;
    if (status === "cancelled") return; // how long somebody waited before a cancel says nothing of the system
    if (firstTokenMs !== null) this.durations.firstToken[slot * BINS + bin(firstTokenMs)] += 1;
    if (totalMs !== null) this.durations.total[slot * BINS + bin(totalMs)] += 1;
  }

  /** Keeps a sample of the queue: `{waiting, building, oldestMs}`. */
  sample(atMs, figures) {
    const slot = this.slot(atMs);
    if (slot === null) return;
    for (const [name, values] of Object.entries(this.samples)) values[slot] = figures[name] ?? NaN;
  }

  /** Says that nothing is missing between the two moments. */
  know(fromMs, untilMs) {
    this.slot(untilMs);
    this.each(fromMs, untilMs, (slot) => (this.known[slot] = 1));
  }

  /** Forgets what ended between the two moments: some of it may be lacking. */
  forget(fromMs, untilMs) {
    this.slot(untilMs);
    this.each(fromMs, untilMs, (slot) => this.clearEnds(slot));
  }

  /**
   * The last `steps` whole steps before `nowMs`, oldest first, each figure the mean (or the percentiles) of the `window`
   * steps that end with it: `{x, rates, codes, firstToken, total, samples}`, x in seconds since the epoch, rates a second,
   * codes the same by code for those that were seen, percentiles `{p50, p95, p99}` in ms. Null where nothing is known.
   */
  view(nowMs, steps, window) {
    this.slot(nowMs);
    const last = Math.floor(nowMs / STEP_MS) - 1;
    const x = [];
    for (let step = last - steps + 1; step <= last; step += 1) x.push(((step + 1) * STEP_MS) / 1000);
    const known = this.sliding(this.known, last, steps, window);
    const first = last - steps + 1;
    const isKnown = (at) => this.isKept(first + at) && this.known[slotOf(first + at)] === 1;
    const rate = (counts) =>
      this.sliding(counts, last, steps, window).map((sum, at) => (isKnown(at) ? (1000 * sum) / (known[at] * STEP_MS) : null));
    const codes = new Map();
    for (const [code, counts] of this.codes) {
      const rates = rate(counts);
      if (rates.some((value) => value > 0)) codes.set(code, rates);
    }
    const percentiles = (name) => this.percentiles(this.durations[name], last, steps, 3 * window);
    return {
      x,
      rates: Object.fromEntries(STATUSES.map((status) => [status, rate(this.ended[status])])),
      codes,
      firstToken: percentiles("firstToken"),
      total: percentiles("total"),
      samples: Object.fromEntries(Object.entries(this.samples).map(([name, all]) => [name, this.carried(all, last, steps)])),
    };
  }

  /** The last `rows` minutes, newest first, the running one included: `{fromMs, ended, firstToken, total}`; see `view`. */
  minutes(nowMs, rows) {
    this.slot(nowMs);
    const found = [];
    const perMinute = 60_000 / STEP_MS;
    for (let minute = Math.floor(nowMs / 60_000); found.length < rows; minute -= 1) {
      const last = (minute + 1) * perMinute - 1;
      const sum = (counts) => this.sliding(counts, last, 1, perMinute)[0];
      const percentiles = (name) => {
        const { p50, p95, p99 } = this.percentiles(this.durations[name], last, 1, perMinute);
        return { p50: p50[0], p95: p95[0], p99: p99[0] };
      };
      found.push({
        fromMs: minute * 60_000,
        isKnown: sum(this.known) > 0,
        ended: Object.fromEntries(STATUSES.map((status) => [status, sum(this.ended[status])])),
        codes: new Map([...this.codes].map(([code, counts]) => [code, sum(counts)]).filter(([, number]) => number > 0)),
        firstToken: percentiles("firstToken"),
        total: percentiles("total"),
      });
    }
    return found;
  }

  // --- the ring ---

  /** Where the step of a moment is kept, after making room for it; null where it is older than what is kept. */
  slot(atMs) {
    const step = Math.floor(atMs / STEP_MS);
    if (this.newest === null) this.newest = step;
    for (let next = Math.max(this.newest + 1, step - STEPS + 1); next <= step; next += 1) this.clear(slotOf(next));
    this.newest = Math.max(this.newest, step);
    return this.isKept(step) ? slotOf(step) : null;
  }

  isKept(step) {
    return step <= this.newest && step > this.newest - STEPS;
  }

  /** Calls `act` with the slot of each whole or begun step between the two moments. */
  each(fromMs, untilMs, act) {
    const first = Math.max(Math.floor(fromMs / STEP_MS), this.newest - STEPS + 1);
    for (let step = first; step <= Math.floor(untilMs / STEP_MS); step += 1) act(slotOf(step));
  }

  clear(slot) {
    this.clearEnds(slot);
    for (const values of Object.values(this.samples)) values[slot] = NaN;
  }

  clearEnds(slot) {
    this.known[slot] = 0;
    for (const counts of [...Object.values(this.ended), ...this.codes.values()]) counts[slot] = 0;
    for (const counts of Object.values(this.durations)) counts.fill(0, slot * BINS, (slot + 1) * BINS);
  }

  ofCode(code) {
    if (!this.codes.has(code)) {
      if (this.codes.size >= MOST_CODES && code !== OTHER) return this.ofCode(OTHER);
      this.codes.set(code, new Uint32Array(STEPS));
    }
    return this.codes.get(code);
  }

  /** For each of the last `steps` steps the sum over the `window` that ends with it. */
  sliding(counts, last, steps, window) {
    const value = (step) => (this.isKept(step) ? counts[slotOf(step)] : 0);
    let sum = 0;
    const sums = [];
    for (let step = last - steps - window + 2; step <= last; step += 1) {
      sum += value(step);
      if (step > last - steps) {
        sums.push(sum);
        sum -= value(step - window + 1);
      }
    }
    return sums;
  }

  percentiles(bins, last, steps, window) {
    const found = { p50: [], p95: [], p99: [] };
    const sums = new Uint32Array(BINS);
    let total = 0;
    const add = (step, sign) => {
      if (!this.isKept(step)) return;
      const begin = slotOf(step) * BINS;
      for (let at = 0; at < BINS; at += 1) {
        const number = bins[begin + at];
        if (number === 0) continue;
        sums[at] += sign * number;
        total += sign * number;
      }
    };
    for (let step = last - steps - window + 2; step <= last; step += 1) {
      add(step, 1);
      if (step > last - steps) {
        for (const [name, part] of [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]]) found[name].push(percentile(sums, total, part));
        add(step - window + 1, -1);
      }
    }
    return found;
  }

  /** Samples, each carried on until the next, but not for ever. */
  carried(values, last, steps) {
    const found = [];
    let value = null;
    let left = 0;
    for (let step = last - steps - SAMPLE_STEPS + 1; step <= last; step += 1) {
      const here = this.isKept(step) ? values[slotOf(step)] : NaN;
      if (!Number.isNaN(here)) {
        value = here;
        left = SAMPLE_STEPS;
      } else if (left-- <= 0) value = null;
      if (step > last - steps) found.push(value);
    }
    return found;
  }
}

function slotOf(step) {
  return ((step % STEPS) + STEPS) % STEPS;
}

function gaps() {
  return new Float64Array(STEPS).fill(NaN);
}

function bin(ms) {
  return Math.min(BINS - 1, Math.max(0, Math.round(Math.log(Math.max(1, ms)) / Math.log(BIN_RATIO))));
}

function percentile(sums, total, part) {
  if (total === 0) return null;
  let left = Math.ceil(part * total);
  for (let at = 0; at < BINS; at += 1) {
    left -= sums[at];
    if (left <= 0) return Math.round(BIN_RATIO ** at);
  }
  return null;
}
