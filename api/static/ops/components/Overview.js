import { html } from "../../app/html.js";
import * as state from "../state.js";
import { Charts } from "./Charts.js";
import { Endings } from "./Endings.js";
import { FailedMessages, SlowestMessages } from "./MessageTable.js";
import { Processes } from "./Processes.js";
import { Tiles } from "./Tiles.js";
import { UnfinishedMessages } from "./UnfinishedMessages.js";

/** How the whole system is doing. */
export function Overview() {
  if (state.summary.value === null) return html`<p class="quiet ops-empty">Loading the figures…</p>`;
  return html`
    <${Tiles} />
    <${Charts} />
    <div class="ops-columns">
      <div>
        <${FailedMessages} />
        <${UnfinishedMessages} />
      </div>
      <div>
        <${Endings} />
        <${Processes} />
        <${SlowestMessages} />
      </div>
    </div>
  `;
}
