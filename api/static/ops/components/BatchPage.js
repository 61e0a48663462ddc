import { html } from "../../app/html.js";
import { changeBatch, saveReport } from "../actions/batches.js";
import { serverNowMs } from "../actions/live.js";
import { messagesAddress } from "../route.js";
import * as state from "../state.js";
import { count, counted, duration, moment, shortId, spaced } from "../words.js";
import { filterWords, total } from "./BatchesPage.js";
import { Panel } from "./Panel.js";

const STATES = ["succeeded", "failed", "skipped", "sent", "waiting"];
const STATUS_OF_STATE = { succeeded: "success", failed: "error", skipped: "cancelled", sent: "running", waiting: "waiting" };

/** One batch: how far it is, and in the end what became of each. */
export function BatchPage() {
  const { id, report, error, isBusy, problem } = state.batch.value;
  if (report === null) {
    return html`<div class="ops-empty">
      ${error === null ? html`<p class="quiet">Loading the batch…</p>` : html`<p role="alert">${error}</p>`}
    </div>`;
  }
  const { status, counts, endedAt } = report;
  const all = total(counts);
  const done = counts.succeeded + counts.failed + counts.skipped;
  const change = (act) => () => changeBatch(id, act);
  return html`
    <header class="page-head">
      <h2>Batch <span class="id">${shortId(id)}</span></h2>
      <span class="status" data-status=${status}>${status === "stopped" && endedAt === null ? "stopped, some are still answered" : status}</span>
      <div class="page-actions">
        ${status === "running" && html`<button type="button" disabled=${isBusy} onClick=${change("pause")}>Pause</button>`}
        ${status === "paused" && html`<button type="button" class="primary" disabled=${isBusy} onClick=${change("resume")}>Resume</button>`}
        ${(status === "running" || status === "paused") &&
        html`<button type="button" disabled=${isBusy} onClick=${change("stop")}>Stop</button>`}
        <button type="button" onClick=${() => saveReport(id)}>Report as CSV</button>
      </div>
    </header>
    ${error !== null && html`<p class="form-error" role="alert">${error} What is shown is older.</p>`}
    ${problem !== null && html`<p class="form-error" role="alert">${problem}</p>`}
    <section class="panel" aria-labelledby="batch-progress">
      <header class="panel-head">
        <h2 id="batch-progress">${count(done)} of ${counted(all, "message")}</h2>
        <span class="quiet">${filterWords(report.filter)}; ${report.rate === null ? "no limit" : `at most ${report.rate} a second`}</span>
      </header>
      <progress class="batch-progress" max=${Math.max(1, all)} value=${done} aria-labelledby="batch-progress"></progress>
      <ul class="batch-states">
        ${STATES.map(
          (name) =>
            html`<li data-state=${name} data-count=${counts[name]}>
              <span class="status" data-status=${STATUS_OF_STATE[name]}>${name}</span> <b>${count(counts[name])}</b>
            </li>`,
        )}
      </ul>
      <p class="quiet">${lifetime(report)}</p>
    </section>
    <${Ends} report=${report} />
  `;
}

function lifetime({ askedBy, createdAt, endedAt }) {
  const nowMs = serverNowMs();
  const began = `Started by ${askedBy} at ${moment(createdAt, nowMs)}`;
  if (endedAt === null) return `${began}.`;
  return `${began}, over after ${duration(Date.parse(endedAt) - Date.parse(createdAt))}.`;
}

/** What became of the messages, by how they had failed before. */
function Ends({ report: { ends, filter } }) {
  if (ends.length === 0) return null;
  return html`
    <${Panel} title="What became of them">
      <table>
        <thead>
          <tr><th scope="col">State</th><th scope="col">Messages</th><th scope="col">Was</th><th scope="col">Code or reason</th></tr>
        </thead>
        <tbody>
          ${ends.map(
            ({ state: name, firstCode, code, reason, count: number }) => html`
              <tr data-end=${name}>
                <th scope="row"><span class="status" data-status=${STATUS_OF_STATE[name]}>${name}</span></th>
                <td>${count(number)}</td>
                <td>${firstCode ? spaced(firstCode) : filter.status}</td>
                <td>
                  ${code && name === "failed"
                    ? html`<a href=${messagesAddress({ status: "error", code: code === "cancelled" ? "" : code })}>${spaced(code)}</a>`
                    : spaced(reason ?? code ?? "–")}
                </td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    <//>
  `;
}
