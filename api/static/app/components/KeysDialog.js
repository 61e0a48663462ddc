import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { closeDialog } from "../actions/projects.js";
import { html } from "../html.js";

const GROUPS = [
  {
    title: "In the chat",
    rows: [
      { keys: ["Enter"], words: "Sends the message" },
      { keys: ["Shift", "Enter"], words: "Begins a new line" },
      { keys: ["↑"], words: "In an empty field: edits your newest message, to ask again" },
      { keys: ["Esc"], words: "Leaves the editing, else stops the answer" },
      { keys: ["?"], words: "Shows these keys, outside of a field" },
    ],
  },
  {
    title: "In the document",
    rows: [
      { keys: ["/"], words: "Searches; Enter goes to the next match" },
      { keys: ["↑ ↓"], words: "Move between the parts, ← and → close and open them" },
      { keys: ["*"], words: "Opens all that is in the part" },
      { keys: ["Enter"], words: "Changes a value" },
      { keys: ["F2"], words: "Renames a key" },
      { keys: ["Insert"], words: "Adds to the part" },
      { keys: ["Delete"], words: "Removes it" },
      { keys: ["Alt", "↑ ↓"], words: "Moves an item in its list" },
      { keys: ["Ctrl", "Z"], words: "Undoes the newest change; with Shift, does it again" },
    ],
  },
];

/** The keys that do something. */
export function KeysDialog() {
  const element = useRef(null);
  useEffect(() => {
    element.current.showModal();
  }, []);
  return html`
    <dialog ref=${element} class="keys-dialog" onClose=${closeDialog} aria-labelledby="dialog-title">
      <form method="dialog">
        <h2 id="dialog-title" tabindex="-1" autofocus>Keys</h2>
        <div class="key-groups">${GROUPS.map(
          ({ title, rows }) => html`<section>
            <h3>${title}</h3>
            <dl class="key-list">
              ${rows.map(
                ({ keys, words }) => html`<div>
                  <dt>${keys.map((key, index) => html`${index > 0 && " + "}<kbd>${key}</kbd>`)}</dt>
                  <dd>${words}</dd>
                </div>`,
              )}
            </dl>
          </section>`,
        )}</div>
        <div class="dialog-buttons"><button type="submit" class="primary">Close</button></div>
      </form>
    </dialog>
  `;
}
