import { loadChanges } from "../actions/changes.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { Changes } from "./Changes.js";

/** What a tool call did to the document: at each place what went and what came. */
export function CallChanges({ messageId, call }) {
  const found = state.changesOf(call.toolCallId).value;
  if (!found) return null;
  if (found.state === "loading") return html`<p class="quiet">Loading what changed…</p>`;
  if (found.state === "failed") {
    return html`<p class="quiet">
      What changed can't be shown: <span dir="auto">${found.detail}</span>
      <button type="button" class="link" onClick=${() => loadChanges(messageId, call)}>Try again</button>
    </p>`;
  }
  if (!found.version) return html`<p class="quiet">The document stayed as it was.</p>`;
  return html`
    <p class="tool-part">What changed, to version ${found.version}</p>
    <${Changes} changes=${found.changes} />
  `;
}
