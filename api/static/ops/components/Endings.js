import { html } from "../../app/html.js";
import { messagesAddress } from "../route.js";
import * as state from "../state.js";
import { clock, count, spaced } from "../words.js";
import { Panel } from "./Panel.js";

/** How messages ended lately: by status, and errors by code. */
export function Endings() {
  const { ended, endedSince, at } = state.summary.value;
  const isCutShort = Date.parse(at) - Date.parse(endedSince) < 3_599_000;
  const note = isCutShort ? `in the last hour, of which all since ${clock(endedSince)} is counted` : "in the last hour";
  return html`
    <${Panel} title="Endings" note=${note}>
      ${ended.length === 0
        ? html`<p class="quiet">Nothing ended.</p>`
        : html`<table>
            <thead>
              <tr><th scope="col">How</th><th scope="col">1 min</th><th scope="col">5 min</th><th scope="col">hour</th></tr>
            </thead>
            <tbody>
              ${ended.map(
                ({ status, code, lastMinute, lastFiveMinutes, lastHour }) => html`
                  <tr data-ending=${code ?? status}>
                    <th scope="row">
                      <a href=${messagesAddress({ status, code, since: "1h" })}>
                        <span class="status" data-status=${status}>${code ? spaced(code) : status}</span>
                      </a>
                    </th>
                    <td>${count(lastMinute)}</td>
                    <td>${count(lastFiveMinutes)}</td>
                    <td>${count(lastHour)}</td>
                  </tr>
                `,
              )}
            </tbody>
          </table>`}
    <//>
  `;
}
