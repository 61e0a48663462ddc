/** Keys that mean the same in more than one pane. */
import { walk } from "../actions/history.js";

/** Ctrl+Z and Ctrl+Shift+Z, but in a text field, which has an undo of its own. */
export function onUndoKeys(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || isTextField(event.target)) return;
  const key = event.key.toLowerCase();
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  walk(key === "y" || event.shiftKey ? "redo" : "undo");
}

/** Whether keys pressed there write something. */
export function isTextField(element) {
  return element.closest?.("input, textarea, select, [contenteditable]") != null;
}
