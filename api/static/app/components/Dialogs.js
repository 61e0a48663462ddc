import { html } from "../html.js";
import * as state from "../state.js";
import { CreateDialog } from "./CreateDialog.js";
import { MembersDialog } from "./MembersDialog.js";
import { DeleteDialog, SettingsDialog } from "./SettingsDialog.js";
import { KeysDialog } from "./KeysDialog.js";

/** The dialog that is open, if one is. */
export function Dialogs() {
  const asked = state.dialog.value;
  if (!asked) return null;
  switch (asked.kind) {
    case "create":
      return html`<${CreateDialog} />`;
    case "settings":
      return html`<${SettingsDialog} project=${asked.project} />`;
    case "members":
      return html`<${MembersDialog} />`;
    case "delete":
      return html`<${DeleteDialog} project=${asked.project} />`;
    case "keys":
      return html`<${KeysDialog} />`;
  }
}
