import { html } from "../../app/html.js";
import { moreBatches } from "../actions/batches.js";
import { serverNowMs } from "../actions/live.js";
import { messagesAddress } from "../route.js";
import * as state from "../state.js";
import { count, moment, shortId, spaced } from "../words.js";

/** All batches, newest first. */
export function BatchesPage() {
  const { items, cursor, isLoading, error } = state.batches.value;
  return html`
    <header class="page-head">
      <h2>Batches</h2>
      <div class="page-actions"><a class="button" href=${messagesAddress({ status: "error" })}>New: choose messages</a></div>
    </header>
    ${error !== null && html`<p class="form-error" role="alert">${error}</p>`}
    ${items === null && error === null && html`<p class="quiet">Loading…</p>`}
    ${items?.length === 0 && html`<p class="quiet">None yet. A batch answers messages again that failed, were cancelled, or are stuck.</p>`}
    ${items?.length > 0 && html`<${List} items=${items} />`}
    ${cursor !== null && html`<button type="button" onClick=${moreBatches} disabled=${isLoading}>Older ones</button>`}
  `;
}

function List({ items }) {
  const nowMs = serverNowMs();
  return html`
    <div class="table-frame found">
      <table>
        <thead>
          <tr>
            <th scope="col">Batch</th><th scope="col">Status</th><th scope="col">Of</th><th scope="col">Done</th>
            <th scope="col" class="wide-only">Failed</th><th scope="col" class="wide-only">Asked by</th><th scope="col" class="wide-only">Began</th>
          </tr>
        </thead>
        <tbody>
          ${items.map(
            ({ id, status, filter, counts, askedBy, createdAt }) => html`
              <tr key=${id} data-batch=${id}>
                <th scope="row"><a class="id" href=${`#batch=${id}`} title=${id}>${shortId(id)}</a></th>
                <td><span class="status" data-status=${status}>${status}</span></td>
                <td>${filterWords(filter)}</td>
                <td>${count(counts.succeeded + counts.failed + counts.skipped)} of ${count(total(counts))}</td>
                <td class="wide-only">${count(counts.failed)}</td>
                <td class="wide-only"><bdi>${askedBy}</bdi></td>
                <td class="wide-only">${moment(createdAt, nowMs)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

/** How many messages a batch is of. */
export function total({ waiting, sent, succeeded, failed, skipped }) {
  return waiting + sent + succeeded + failed + skipped;
}

/** Which messages a batch is of, in a few words. */
export function filterWords({ status, code, project, model, messages }) {
  const words = [
    code ? spaced(code) : status,
    messages && `${count(messages.length)} chosen`,
    model,
    project && `project ${shortId(project)}`,
  ];
  return words.filter(Boolean).join(", ");
}
