import { html } from "../../app/html.js";
import { serverNowMs } from "../actions/live.js";
import * as state from "../state.js";
import { waterfall } from "../waterfall.js";
import { duration } from "../words.js";
import { Panel } from "./Panel.js";

/** Where the message's time went: a bar for each stage on one scale, its figures beside it. */
export function Waterfall({ details }) {
  const isRunning = ["pending", "building"].includes(details.message.status);
  if (isRunning) state.beat.value; // its bars grow
  const { totalMs, bars, marks } = waterfall(details, serverNowMs());
  const percent = (ms) => `${((100 * ms) / totalMs).toFixed(2)}%`;
  return html`
    <${Panel} title="Where the time went" note=${`${duration(totalMs)} ${isRunning ? "so far" : "in all"}`} isPlain>
      <table class="waterfall">
        <thead class="visually-hidden">
          <tr><th scope="col">Stage</th><th scope="col">Drawn</th><th scope="col">Began after</th><th scope="col">Took</th></tr>
        </thead>
        <tbody>
          ${bars.map(
            ({ name, fromMs, toMs, kind, isApproximate }) => html`
              <tr data-stage=${name}>
                <th scope="row">${name}</th>
                <td class="waterfall-track" aria-hidden="true">
                  <div
                    class="waterfall-bar"
                    data-kind=${kind}
                    data-approximate=${isApproximate ? "true" : undefined}
                    style=${{ insetInlineStart: percent(fromMs), width: percent(toMs - fromMs) }}
                  ></div>
                </td>
                <td class="wide-only quiet">${isApproximate ? "about " : ""}${duration(fromMs)}</td>
                <td>${duration(toMs - fromMs)}</td>
              </tr>
            `,
          )}
          ${marks.map(
            ({ name, atMs }) => html`
              <tr data-stage=${name}>
                <th scope="row">${name}</th>
                <td class="waterfall-track" aria-hidden="true">
                  <div class="waterfall-mark" style=${{ insetInlineStart: percent(atMs) }}></div>
                </td>
                <td class="wide-only quiet">${duration(atMs)}</td>
                <td>at ${duration(atMs)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    <//>
  `;
}
