import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { closeDialog } from "../actions/projects.js";
import { html } from "../html.js";

const KEYS = [
  { keys: ["Enter"], words: "Sends the message" },
  { keys: ["Shift", "Enter"], words: "Begins a new line" },
  { keys: ["↑"], words: "In an empty field: edits your newest message, to ask again" },
  { keys: ["Esc"], words: "Leaves the editing, else stops the answer" },
  { keys: ["?"], words: "Shows these keys, outside of a field" },
];

/** The keys that do something. */
export function KeysDialog() {
  const element = useRef(null);
  useEffect(() => {
    element.current.showModal();
  }, []);
  return html`
    <dialog ref=${element} onClose=${closeDialog} aria-labelledby="dialog-title">
      <form method="dialog">
        <h2 id="dialog-title">Keys</h2>
        <dl class="key-list">
          ${KEYS.map(
            ({ keys, words }) => html`<div>
              <dt>${keys.map((key, index) => html`${index > 0 && " + "}<kbd>${key}</kbd>`)}</dt>
              <dd>${words}</dd>
            </div>`,
          )}
        </dl>
        <div class="dialog-buttons"><button type="submit" class="primary">Close</button></div>
      </form>
    </dialog>
  `;
}
