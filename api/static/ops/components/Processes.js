import { html } from "../../app/html.js";
import * as state from "../state.js";
import { count, duration } from "../words.js";
import { Panel } from "./Panel.js";
import { LATE_MS } from "./Tiles.js";

const MOST_SHOWN = 12;

/** Sweepers and when each last came round; workers and builders that hold messages. */
export function Processes() {
  const { sweepers, workers } = state.summary.value;
  return html`
    <${Panel} title="Processes" note="a worker that holds nothing is not known" isPlain>
      <table>
        <thead>
          <tr><th scope="col">Process</th><th scope="col">Does</th></tr>
        </thead>
        <tbody>
          ${sweepers.slice(0, MOST_SHOWN).map(
            ({ name, silentMs }) => html`
              <tr data-process="sweeper">
                <th scope="row"><bdi class="process">${name}</bdi></th>
                <td data-bad=${silentMs >= LATE_MS ? "true" : undefined}>swept ${duration(silentMs)} ago</td>
              </tr>
            `,
          )}
          ${workers.slice(0, MOST_SHOWN).map(
            ({ name, held }) => html`
              <tr data-process="worker">
                <th scope="row"><bdi class="process">${name}</bdi></th>
                <td>holds ${count(held)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
      ${sweepers.length === 0 && html`<p class="quiet">No sweeper was ever seen.</p>`}
      ${(sweepers.length > MOST_SHOWN || workers.length > MOST_SHOWN) &&
      html`<p class="quiet">There are ${count(sweepers.length)} sweepers and ${count(workers.length)} workers; not all are shown.</p>`}
    <//>
  `;
}
