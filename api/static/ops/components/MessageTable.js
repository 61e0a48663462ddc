import { html } from "../../app/html.js";
import { serverNowMs } from "../actions/live.js";
import { messagesAddress } from "../route.js";
import * as state from "../state.js";
import { duration, moment, shortId, spaced } from "../words.js";
import { Panel } from "./Panel.js";

/** A message as a link to its page. */
export function MessageLink({ id }) {
  return html`<a class="id" href=${`#message=${id}`} title=${id}>${shortId(id)}</a>`;
}

/** A status, or an error's code, in its colour and in words. */
export function Status({ status, code }) {
  return html`<span class="status" data-status=${status}>${code ? spaced(code) : status}</span>`;
}

/** The messages that failed last. */
export function FailedMessages() {
  const items = state.summary.value.newestFailed;
  const all = html`<a href=${messagesAddress({ status: "error", since: "1h" })}>All of an hour</a>`;
  return html`
    <${Panel} title="Newest failed" actions=${all}>
      ${items.length === 0
        ? html`<p class="quiet">None failed.</p>`
        : html`<table>
            <thead>
              <tr>
                <th scope="col">Message</th><th scope="col">Code</th><th scope="col">At</th><th scope="col" class="wide-only">Took</th>
                <th scope="col" class="wide-only">Model</th>
              </tr>
            </thead>
            <tbody>
              ${items.map(
                (item) => html`
                  <tr key=${item.id} data-message=${item.id}>
                    <th scope="row"><${MessageLink} id=${item.id} /></th>
                    <td><${Status} status="error" code=${item.code} /></td>
                    <td>${moment(item.updatedAt, serverNowMs())}</td>
                    <td class="wide-only">${duration(item.timing?.totalMs ?? item.ageMs)}</td>
                    <td class="wide-only"><bdi>${item.model}</bdi></td>
                  </tr>
                `,
              )}
            </tbody>
          </table>`}
    <//>
  `;
}

/** The unfinished messages that were enqueued first, as the rows have them. */
export function SlowestMessages() {
  const items = state.summary.value.slowestUnfinished;
  return html`
    <${Panel} title="Slowest unfinished">
      ${items.length === 0
        ? html`<p class="quiet">Nothing is unfinished.</p>`
        : html`<table>
            <thead>
              <tr>
                <th scope="col">Message</th><th scope="col">Status</th><th scope="col">For</th><th scope="col">Attempt</th>
                <th scope="col" class="wide-only">Held by</th>
              </tr>
            </thead>
            <tbody>
              ${items.map(
                (item) => html`
                  <tr key=${item.id} data-message=${item.id}>
                    <th scope="row"><${MessageLink} id=${item.id} /></th>
                    <td><${Status} status=${item.status} /></td>
                    <td>${duration(item.ageMs)}</td>
                    <td>${item.attempt}</td>
                    <td class="wide-only"><bdi class="process">${item.heldBy ?? "nobody"}</bdi></td>
                  </tr>
                `,
              )}
            </tbody>
          </table>`}
    <//>
  `;
}
