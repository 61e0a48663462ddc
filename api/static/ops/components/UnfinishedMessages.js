import { html } from "../../app/html.js";
import { serverNowMs } from "../actions/live.js";
import { chooseGrouping } from "../actions/looking.js";
import { messagesAddress } from "../route.js";
import * as state from "../state.js";
import { count, duration, shortId } from "../words.js";
import { MessageLink, Status } from "./MessageTable.js";
import { Panel } from "./Panel.js";

const GROUPINGS = [
  { name: "age", label: "By age" },
  { name: "projectId", label: "By project" },
  { name: "model", label: "By model" },
];
const MOST_SHOWN = 12;

/** What is running and what waits, as it is told: one by one, or by project or model. */
export function UnfinishedMessages() {
  state.beat.value; // what is listed is no signal
  const { unfinished } = state.live;
  const grouping = state.grouping.value;
  const choice = html`
    <div class="choice" role="group" aria-label="How unfinished messages are listed">
      ${GROUPINGS.map(
        ({ name, label }) =>
          html`<button type="button" aria-pressed=${grouping === name} onClick=${() => chooseGrouping(name)}>${label}</button>`,
      )}
    </div>
  `;
  const size = unfinished.entries.size;
  const note = html`<span data-unfinished=${size}>${count(size)}${unfinished.isCut ? " or more" : ""}, live</span>`;
  return html`
    <${Panel} title="Unfinished" note=${note} actions=${choice}>
      ${size === 0
        ? html`<p class="quiet">Nothing runs, and nothing waits.</p>`
        : grouping === "age"
          ? html`<${ByAge} entries=${unfinished.oldest(MOST_SHOWN)} />`
          : html`<${Grouped} name=${grouping} groups=${unfinished.grouped(grouping, MOST_SHOWN)} />`}
    <//>
  `;
}

function ByAge({ entries }) {
  const nowMs = serverNowMs();
  return html`
    <table>
      <thead>
        <tr>
          <th scope="col">Message</th><th scope="col">State</th><th scope="col">For</th><th scope="col" class="wide-only">Project</th>
          <th scope="col" class="wide-only">Model</th>
        </tr>
      </thead>
      <tbody>
        ${entries.map(
          ({ id, state: now, sinceMs, projectId, model }) => html`
            <tr key=${id} data-message=${id}>
              <th scope="row"><${MessageLink} id=${id} /></th>
              <td><${Status} status=${now} /></td>
              <td>${duration(Math.max(0, nowMs - sinceMs))}</td>
              <td class="wide-only"><a class="id" href=${messagesAddress({ project: projectId })} title=${projectId}>${shortId(projectId)}</a></td>
              <td class="wide-only"><bdi>${model}</bdi></td>
            </tr>
          `,
        )}
      </tbody>
    </table>
  `;
}

function Grouped({ name, groups }) {
  const nowMs = serverNowMs();
  const isProject = name === "projectId";
  return html`
    <table>
      <thead>
        <tr>
          <th scope="col">${isProject ? "Project" : "Model"}</th><th scope="col">Running</th><th scope="col">Waiting</th>
          <th scope="col">Building</th><th scope="col">Oldest</th>
        </tr>
      </thead>
      <tbody>
        ${groups.map(
          ({ key, running, waiting, building, sinceMs }) => html`
            <tr key=${key} data-group=${key}>
              <th scope="row">
                <a class=${isProject ? "id" : ""} href=${messagesAddress(isProject ? { project: key } : { model: key })} title=${key}>
                  <bdi>${isProject ? shortId(key) : key || "–"}</bdi>
                </a>
              </th>
              <td>${count(running)}</td>
              <td>${count(waiting)}</td>
              <td>${count(building)}</td>
              <td>${duration(Math.max(0, nowMs - sinceMs))}</td>
            </tr>
          `,
        )}
      </tbody>
    </table>
  `;
}
