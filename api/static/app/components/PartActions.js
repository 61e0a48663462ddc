import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { editAddition, editKey, editValue, movePart, removePart } from "../actions/editing.js";
import { setAllUnfolded } from "../actions/tree.js";
import { html } from "../html.js";
import { isContainer, parentOf, resolve } from "../pointer.js";
import * as state from "../state.js";
import { canRename } from "./Tree.js";

/** What can be done with the selected part of the document. */
export function PartActions() {
  const selected = state.selected.value;
  const shown = state.shownDocument.value;
  if (shown === null || state.editing.value || state.conflict.value) return null;
  const pointer = resolve(shown, selected) === undefined ? "" : selected;
  const value = resolve(shown, pointer);
  const isFoldable = isContainer(value);
  const isItem = pointer !== "" && Array.isArray(resolve(shown, parentOf(pointer)));
  const action = (label, act, keys) =>
    html`<button type="button" class="link" aria-keyshortcuts=${keys} onClick=${act}>${label}</button>`;
  return html`
    <div class="part-actions" role="group" aria-label="The selected part">
      <p class="part-head">
        <code class="part-pointer" title=${pointer}>${pointer || "document"}</code>
        <${Copy} key=${`pointer ${pointer}`} label="Copy pointer" text=${() => pointer} />
      </p>
      <div class="part-buttons">
        ${state.canEdit.value &&
        html`
          ${action(isFoldable ? "Edit as JSON" : "Edit", () => editValue(pointer))}
          ${isFoldable && action("Add", () => editAddition(pointer), "Insert")}
          ${canRename(pointer) && action("Rename key", () => editKey(pointer), "F2")}
          ${isItem && action("Move up", () => movePart(pointer, -1), "Alt+ArrowUp")}
          ${isItem && action("Move down", () => movePart(pointer, 1), "Alt+ArrowDown")}
          ${pointer !== "" && action("Remove", () => removePart(pointer), "Delete")}
        `}
        ${isFoldable && action("Open all", () => setAllUnfolded(pointer, true))}
        ${isFoldable && action("Close all", () => setAllUnfolded(pointer, false))}
        <${Copy}
          key=${`value ${pointer}`}
          label="Copy value"
          text=${() => (typeof value === "string" ? value : JSON.stringify(value, null, 2))}
        />
      </div>
    </div>
  `;
}

function Copy({ label, text }) {
  const [outcome, setOutcome] = useState(null);
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      said = "Not allowed here"; // no clipboard but on https and localhost
    }
    setOutcome(said);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setOutcome(null), 2000);
  };
  return html`<button type="button" class="link" onClick=${copy}>${outcome ?? label}</button>`;
}
