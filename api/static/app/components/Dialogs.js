import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { closeDialog, createProject, deleteProject, renameProject } from "../actions/projects.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { KeysDialog } from "./KeysDialog.js";

/** The dialog that is open, if one is. */
export function Dialogs() {
  const asked = state.dialog.value;
  if (!asked) return null;
  switch (asked.kind) {
    case "create":
      return html`<${CreateDialog} />`;
    case "rename":
      return html`<${RenameDialog} project=${asked.project} />`;
    case "delete":
      return html`<${DeleteDialog} project=${asked.project} />`;
    case "keys":
      return html`<${KeysDialog} />`;
  }
}

/** A modal form: Esc and Cancel close it, `act` does what it is for; a refusal is shown in it. */
function Modal({ title, verb, isDangerous, act, children }) {
  const element = useRef(null);
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    element.current.showModal();
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await act(new FormData(event.currentTarget));
    } catch (refusal) {
      setError(refusal.message);
      setBusy(false);
    }
  };
  return html`
    <dialog ref=${element} onClose=${closeDialog} aria-labelledby="dialog-title">
      <form onSubmit=${submit}>
        <h2 id="dialog-title">${title}</h2>
        ${children}
        ${error && html`<p class="form-error" role="alert">${error}</p>`}
        <div class="dialog-buttons">
          <button type="button" onClick=${() => element.current.close()}>Cancel</button>
          <button type="submit" class=${isDangerous ? "danger" : "primary"} disabled=${isBusy}>${verb}</button>
        </div>
      </form>
    </dialog>
  `;
}

function CreateDialog() {
  const act = (form) => createProject(form.get("name").trim() || "Untitled", form.get("template") || undefined);
  return html`
    <${Modal} title="New project" verb="Create" act=${act}>
      <label class="field">Name <input name="name" dir="auto" maxlength="200" value="My video" autofocus /></label>
      <fieldset>
        <legend>Document</legend>
        <label><input type="radio" name="template" value="video" checked /> A short video, with scenes to edit</label>
        <label><input type="radio" name="template" value="" /> Empty</label>
      </fieldset>
    <//>
  `;
}

function RenameDialog({ project }) {
  const act = (form) => renameProject(project.id, form.get("name").trim());
  return html`
    <${Modal} title="Rename the project" verb="Rename" act=${act}>
      <label class="field">
        Name <input name="name" dir="auto" maxlength="200" required value=${project.name} autofocus />
      </label>
    <//>
  `;
}

function DeleteDialog({ project }) {
  return html`
    <${Modal} title="Delete this project?" verb="Delete" isDangerous act=${() => deleteProject(project.id)}>
      <p>
        “<bdi>${project.name}</bdi>” goes with its document and all its messages. What runs is stopped. This can't be
        undone.
      </p>
    <//>
  `;
}
