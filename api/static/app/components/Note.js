import { dismissNote } from "../actions/history.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { Places } from "./Places.js";

/** What became of an action on the document. */
export function Note() {
  const note = state.documentNote.value;
  if (note === null) return null;
  return html`
    <div class="pane-note" role="alert">
      <div>
        <p>${note.text}</p>
        <${Places} places=${note.places} />
      </div>
      <button type="button" class="link" onClick=${dismissNote}>Dismiss</button>
    </div>
  `;
}
