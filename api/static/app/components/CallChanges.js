import { loadChanges } from "../actions/changes.js";
import { html } from "../html.js";
import * as state from "../state.js";

/** What a tool call did to the document: at each place the lines that went and those that came. */
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
  if (found.places.length === 0) return html`<p class="quiet">The document stayed as it was.</p>`;
  return html`
    <p class="tool-part">What changed, to version ${found.version}</p>
    <ul class="call-changes">
      ${found.places.map((place) => html`<${Place} place=${place} />`)}
    </ul>
    ${found.more > 0 && html`<p class="quiet">And ${found.more} more places.</p>`}
  `;
}

function Place({ place }) {
  const where = place.pointer || "the whole document";
  return html`
    <li>
      <code class="pointer">${where}</code>
      <div class="lines" tabindex="0" role="group" aria-label=${`Change of ${where}`}>
        ${place.removed.length > 0 && html`<del>${place.removed.map((line) => html`<${Line} mark="−" text=${line} />`)}</del>`}
        ${place.added.length > 0 && html`<ins>${place.added.map((line) => html`<${Line} mark="+" text=${line} />`)}</ins>`}
      </div>
    </li>
  `;
}

function Line({ mark, text }) {
  return html`<span class="line"><span class="line-mark" aria-hidden="true">${mark}</span><code>${text}</code></span>`;
}
