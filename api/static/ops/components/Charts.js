import { html } from "../../app/html.js";
import { useMemo } from "../../vendor/preact-hooks.js";
import { serverNowMs } from "../actions/live.js";
import { chooseRange } from "../actions/looking.js";
import { STEP_MS } from "../history.js";
import * as state from "../state.js";
import { clock, count, duration, perSecond, spaced } from "../words.js";
import { Chart } from "./Chart.js";

/** How much is shown, in steps, and over how many a mean is taken. */
const RANGES = {
  "5m": { label: "5 min", steps: 150, window: 5 },
  "15m": { label: "15 min", steps: 450, window: 8 },
  "1h": { label: "1 hour", steps: 1800, window: 30 },
};
const TABLE_MINUTES = 10;
/** Error codes that have a line of their own; the others are added up. */
const MOST_LINES = 4;
const CODE_LINES = [
  { color: "--bad", dash: "solid" },
  { color: "--lit-line", dash: "dashed" },
  { color: "--code-name", dash: "dotted" },
  { color: "--code-word", dash: "solid" },
  { color: "--quiet", dash: "dashed" },
];
const PERCENTILES = [
  { part: "p50", color: "--accent", dash: "solid" },
  { part: "p95", color: "--lit-line", dash: "dashed" },
  { part: "p99", color: "--bad", dash: "dotted" },
];

/** What happened in the last minutes, or the last hour. */
export function Charts() {
  const range = RANGES[state.range.value];
  const step = state.step.value;
  const { view, minutes } = useMemo(() => {
    const nowMs = serverNowMs();
    return {
      view: state.live.history.view(nowMs, range.steps, range.window),
      minutes: state.live.history.minutes(nowMs, TABLE_MINUTES),
    };
  }, [step, state.range.value, filledOf(state.beat.value, step)]);
  const mean = `mean of ${duration(range.window * STEP_MS)}`;
  const within = `within ${duration(3 * range.window * STEP_MS)}`;
  const times = (name) => minutes.map((row) => [clock(row.fromMs).slice(0, 5), ...["p50", "p95", "p99"].map((part) => duration(row[name][part]))]);
  const percentiles = (values) => PERCENTILES.map(({ part, ...look }) => ({ label: part, ...look, values: values[part] }));
  const codes = errorLines(view.codes, view.x.length);
  return html`
    <section class="charts" aria-labelledby="charts-title">
      <div class="charts-head">
        <h2 id="charts-title">Over time</h2>
        <div class="choice" role="group" aria-label="How much is shown">
          ${Object.entries(RANGES).map(
            ([name, { label }]) => html`<button
              type="button"
              aria-pressed=${state.range.value === name}
              onClick=${() => chooseRange(name)}
            >${label}</button>`,
          )}
        </div>
      </div>
      <div class="chart-grid">
        <${Chart}
          title="Throughput"
          note=${`messages ended a second, ${mean}`}
          x=${view.x}
          series=${[
            { label: "success", color: "--good", dash: "solid", values: view.rates.success, isFilled: true },
            { label: "error", color: "--bad", dash: "dashed", values: view.rates.error },
            { label: "cancelled", color: "--quiet", dash: "dotted", values: view.rates.cancelled },
          ]}
          shown=${perSecond}
          least=${1}
          summary=${["success", "error", "cancelled"].map((name) => said(name, view.rates[name], perSecond, " a second")).join("; ")}
          columns=${["Minute", "success", "error", "cancelled"]}
          rows=${minutes.map(({ fromMs, ended, isKnown }) => [
            clock(fromMs).slice(0, 5),
            ...[ended.success, ended.error, ended.cancelled].map((number) => count(isKnown || number ? number : null)),
          ])}
        />
        <${Chart}
          title="First token"
          note=${`since it was enqueued, ${within}`}
          x=${view.x}
          series=${percentiles(view.firstToken)}
          shown=${duration}
          least=${1000}
          summary=${["p50", "p95", "p99"].map((part) => said(part, view.firstToken[part], duration)).join("; ")}
          columns=${["Minute", "p50", "p95", "p99"]}
          rows=${times("firstToken")}
        />
        <${Chart}
          title="Completion"
          note=${`since it was enqueued, ${within}`}
          x=${view.x}
          series=${percentiles(view.total)}
          shown=${duration}
          least=${1000}
          summary=${["p50", "p95", "p99"].map((part) => said(part, view.total[part], duration)).join("; ")}
          columns=${["Minute", "p50", "p95", "p99"]}
          rows=${times("total")}
        />
        <${Chart}
          title="Errors by code"
          note=${`a minute, ${mean}`}
          x=${view.x}
          series=${codes}
          shown=${perMinute}
          least=${5}
          summary=${codes.map(({ label, values }) => said(label, values, perMinute, " a minute")).join("; ")}
          columns=${["Minute", ...codes.map(({ label }) => label)]}
          rows=${minutes.map((row) => [clock(row.fromMs).slice(0, 5), ...codeCells(row, codes)])}
        />
        <${Chart}
          title="Queue"
          note="held by nobody"
          x=${view.x}
          series=${[
            { label: "waiting", color: "--accent", dash: "solid", values: view.samples.waiting, isFilled: true },
            { label: "waiting for a builder", color: "--code-word", dash: "dashed", values: view.samples.building },
          ]}
          shown=${(value) => count(value === null ? null : Math.round(10 * value) / 10)}
          least=${5}
          summary=${[said("waiting", view.samples.waiting, count), said("waiting for a builder", view.samples.building, count)].join("; ")}
          columns=${["Time", "waiting", "for a builder"]}
          rows=${sampled(view, ["waiting", "building"], count)}
        />
        <${Chart}
          title="Oldest in the queue"
          note="of those whose turn it is"
          x=${view.x}
          series=${[{ label: "waits for", color: "--accent", dash: "solid", values: view.samples.oldestMs, isFilled: true }]}
          shown=${duration}
          least=${1000}
          summary=${said("the oldest waits for", view.samples.oldestMs, duration)}
          columns=${["Time", "waits for"]}
          rows=${sampled(view, ["oldestMs"], duration)}
        />
      </div>
    </section>
  `;
}

/** The beat while there is nothing but gaps, so that rows that were loaded are drawn at once; the step after. */
function filledOf(beat, step) {
  return state.live.history.known.includes(1) ? step : beat;
}

/** One line's newest figure and its highest, in words. */
function said(name, values, shown, unit = "") {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return `${name}: nothing yet`;
  return `${name} ${shown(known.at(-1))}${unit}, at most ${shown(Math.max(...known))}`;
}

function perMinute(value) {
  return value === null ? "–" : perSecond(value);
}

/** `[{label, code, values}]` a minute: the codes with most errors, and what is left. */
function errorLines(codes, length) {
  const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0);
  const sorted = [...codes].sort(([, left], [, right]) => sum(right) - sum(left));
  const lines = sorted.slice(0, MOST_LINES).map(([code, values]) => ({ label: spaced(code), codes: [code], values }));
  const rest = sorted.slice(MOST_LINES);
  if (rest.length > 0) {
    const added = rest[0][1].map((_, at) => (rest[0][1][at] === null ? null : rest.reduce((all, [, values]) => all + values[at], 0)));
    lines.push({ label: "others", codes: rest.map(([code]) => code), values: added });
  }
  if (lines.length === 0) lines.push({ label: "errors", codes: [], values: new Array(length).fill(null) });
  return lines.map((line, at) => ({ ...line, ...CODE_LINES[at], values: line.values.map((value) => value && 60 * value) }));
}

function codeCells(row, lines) {
  return lines.map(({ codes }) => {
    const number = codes.reduce((all, code) => all + (row.codes.get(code) ?? 0), 0);
    return count(row.isKnown || number ? number : null);
  });
}

/** Every so many seconds a row, newest first. */
function sampled({ x, samples }, names, shown) {
  const rows = [];
  for (let at = x.length - 1; at >= 0 && rows.length < TABLE_MINUTES; at -= 15) {
    rows.push([clock(1000 * x[at]), ...names.map((name) => shown(samples[name][at]))]);
  }
  return rows;
}
