import { html } from "../../app/html.js";
import { useState } from "../../vendor/preact-hooks.js";
import { bytes, clock, count, counted, duration, spaced } from "../words.js";
import { Panel } from "./Panel.js";

/** More are shown on demand: a log may have thousands. */
const SHOWN = 100;

/** The message's events without their text; neighbouring deltas are one line. */
export function Events({ log, message }) {
  const [isWhole, setWhole] = useState(false);
  if (log === null || log.events.length === 0) return null;
  const zeroMs = Date.parse(message.enqueuedAt ?? message.createdAt);
  const shown = isWhole ? log.events : log.events.slice(0, SHOWN);
  const more = log.events.length - shown.length;
  return html`
    <${Panel} title="Events" note=${log.isWhole ? "without their text" : "the first 10,000, without their text"} isPlain>
      <table>
        <thead>
          <tr>
            <th scope="col">Id</th><th scope="col">Type</th><th scope="col">At</th><th scope="col">After</th><th scope="col">What</th>
          </tr>
        </thead>
        <tbody>
          ${shown.map(
            (event) => html`
              <tr key=${event.id} data-event=${event.type}>
                <th scope="row"><code>${event.id}</code></th>
                <td>${spaced(event.type)}</td>
                <td>${clock(event.ts)}</td>
                <td>${event.ts >= zeroMs ? duration(event.ts - zeroMs) : "a run before"}</td>
                <td>${what(event)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
      ${more > 0 && html`<button type="button" class="link" onClick=${() => setWhole(true)}>${count(more)} more</button>`}
    <//>
  `;
}

/** What is known of an event, in words. */
function what(event) {
  const said = [
    event.status,
    event.name,
    event.toolCallId,
    event.success === true && "succeeded",
    event.success === false && "failed",
    event.code && spaced(event.code),
    event.reason && `reason: ${event.reason}`,
    event.jobId && `job ${event.jobId}`,
    event.deltas !== undefined && counted(event.deltas, "delta"),
    event.textBytes !== undefined && bytes(event.textBytes),
    event.until !== undefined && event.until > event.ts && `within ${duration(event.until - event.ts)}`,
  ];
  return said.filter(Boolean).join(", ");
}
