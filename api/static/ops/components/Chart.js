import { html } from "../../app/html.js";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import uPlot from "../../vendor/uplot.js";
import { clock } from "../words.js";

const HEIGHT_PX = 150;
const AXIS_PX = 52;
const DASHES = { solid: [], dashed: [7, 4], dotted: [2, 3] };
const FONT = "12px system-ui, sans-serif";

/**
 * Lines over time. `series`: `[{label, color, dash, values, isFilled}]`, the colour a custom property's name; `shown` makes a
 * value text; the scale reaches `least` at least. The drawing itself says nothing to a screen reader: its name does (`summary`), and the table, which is `rows`
 * under `columns`.
 */
export function Chart({ title, note, x, series, shown, least, summary, columns, rows }) {
  const place = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const theme = useTheme();
  const id = useId();
  const shape = series.map(({ label, color, dash }) => `${label} ${color} ${dash}`).join();
  const latest = useRef(shown);
  latest.current = shown;

  useLayoutEffect(() => {
    const made = new uPlot(options(series, place.current, latest, least, setAt), data(x, series), place.current);
    plot.current = made;
    const resized = new ResizeObserver(([{ contentRect }]) => made.setSize({ width: Math.floor(contentRect.width), height: HEIGHT_PX }));
    resized.observe(place.current);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, [shape, theme]);
  useLayoutEffect(() => plot.current.setData(data(x, series)), [x]);

  const index = at !== null && at < x.length ? at : x.length - 1;
  return html`
    <figure class="chart" data-chart=${title}>
      <figcaption id=${id}>
        <h3>${title}</h3>
        <span class="quiet">${at === null ? note : `at ${clock(1000 * x[index])}`}</span>
      </figcaption>
      <ul class="chart-legend" aria-hidden="true">
        ${series.map(
          ({ label, color, dash, values }) =>
            html`<li><i style=${{ borderColor: `var(${color})` }} data-dash=${dash}></i>${label} <b>${shown(values[index] ?? null)}</b></li>`,
        )}
      </ul>
      <div class="chart-plot" role="img" aria-label=${`${title}: ${summary}`} ref=${place}></div>
      <details class="chart-table">
        <summary>As a table<span class="visually-hidden">: ${title}</span></summary>
        <div class="table-frame" tabindex="0" role="region" aria-labelledby=${id}>
          <table>
            <thead>
              <tr>${columns.map((name) => html`<th scope="col">${name}</th>`)}</tr>
            </thead>
            <tbody>
              ${rows.map(
                ([first, ...cells]) =>
                  html`<tr><th scope="row">${first}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`,
              )}
            </tbody>
          </table>
        </div>
      </details>
    </figure>
  `;
}

function data(x, series) {
  return [x, ...series.map(({ values }) => values)];
}

/** uPlot's options: the colours are the page's, read when the chart is made. */
function options(series, place, shown, least, setAt) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--quiet"), font: FONT, ticks: { show: false } };
  const grid = { stroke: color("--line"), width: 1 };
  return {
    width: Math.floor(place.clientWidth) || 300,
    height: HEIGHT_PX,
    legend: { show: false },
    padding: [8, 18, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: "ops" }, points: { size: 5 } },
    scales: { y: { range: (_, __, most) => [0, Math.max(least, 1.1 * (most ?? 0))] } },
    axes: [
      { ...axis, grid: { show: false }, space: 48, size: 24, values: (_, splits) => splits.map((s) => clock(1000 * s).slice(0, 5)) },
      { ...axis, grid, size: AXIS_PX, space: 36, values: (_, splits) => splits.map((value) => shown.current(value)) },
    ],
    series: [
      {},
      ...series.map(({ label, color: name, dash, isFilled }) => ({
        label,
        stroke: color(name),
        fill: isFilled ? `${color(name)}26` : undefined,
        width: 1.5,
        dash: DASHES[dash],
        points: { show: false },
      })),
    ],
    hooks: { setCursor: [({ cursor }) => setAt(cursor.idx ?? null)] },
  };
}

/** "dark" or "light", as the browser prefers now. */
function useTheme() {
  const [isDark, setDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const onChange = () => setDark(query.matches);
    query.addEventListener("change", onChange);
    return () => query.removeEventListener("change", onChange);
  }, []);
  return isDark ? "dark" : "light";
}
