import { showSide } from "../actions/document.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { DocumentPane } from "./DocumentPane.js";
import { HistoryPane } from "./HistoryPane.js";
import { PreviewPane } from "./PreviewPane.js";

/** What stands beside the chat, one at a time. `state.side` names the one that is shown. */
export const PANES = [
  { name: "document", label: "Document", Pane: DocumentPane },
  { name: "preview", label: "Preview", Pane: PreviewPane },
  { name: "history", label: "History", Pane: HistoryPane },
];

export function SidePane() {
  const shown = PANES.find(({ name }) => name === state.side.value) ?? PANES[0];
  return html`
    <div class="side">
      ${PANES.length > 1 &&
      html`<div class="side-tabs" role="group" aria-label="Beside the chat">
        ${PANES.map(
          ({ name, label }) => html`<button
            type="button"
            aria-pressed=${name === shown.name}
            onClick=${() => showSide(name)}
          >
            ${label}
          </button>`,
        )}
      </div>`}
      <${shown.Pane} />
    </div>
  `;
}
