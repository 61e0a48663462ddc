import { useState } from "../../vendor/preact-hooks.js";
import { askFor, changeProject, deleteProject } from "../actions/projects.js";
import { html } from "../html.js";
import { parseJsonText } from "../json_text.js";
import * as state from "../state.js";
import { JsonField } from "./JsonField.js";
import { Modal } from "./Modal.js";

/** The project's name and schema; owners also come to deleting it from here. */
export function SettingsDialog({ project }) {
  const [hasSchema, setHasSchema] = useState(project.schema !== null);
  const [text, setText] = useState(() => JSON.stringify(project.schema ?? { type: "object" }, null, 2));
  const problem = hasSchema ? schemaProblem(text) : null;
  const act = (form) => {
    const name = form.get("name").trim();
    const schema = hasSchema ? parseJsonText(text) : null;
    const isSame = JSON.stringify(schema) === JSON.stringify(project.schema);
    return changeProject(project.id, { name, schema: isSame ? undefined : schema });
  };
  return html`
    <${Modal} title="Project settings" verb="Save" isWide isHeld=${problem !== null} act=${act}>
      <label class="field">
        Name <input name="name" dir="auto" maxlength="200" required defaultValue=${project.name} autofocus />
      </label>
      <label>
        <input type="checkbox" checked=${hasSchema} onChange=${(event) => setHasSchema(event.currentTarget.checked)} /> The
        document must fit a JSON Schema
      </label>
      ${hasSchema && html`<${JsonField} label="Schema" text=${text} onText=${setText} problem=${problem} rows=${12} />`}
      ${state.project.value?.role === "owner" &&
      html`<p><button type="button" class="link bad" onClick=${() => askFor("delete", project)}>Delete this project…</button></p>`}
    <//>
  `;
}

/** What is wrong with the text as a schema, in words, or null; the server looks closer. */
function schemaProblem(text) {
  try {
    const value = parseJsonText(text);
    const isSchema = typeof value === "boolean" || (typeof value === "object" && value !== null && !Array.isArray(value));
    return isSchema ? null : "A schema is an object, or true or false.";
  } catch (error) {
    return error.message;
  }
}

export function DeleteDialog({ project }) {
  const [typed, setTyped] = useState("");
  return html`
    <${Modal}
      title="Delete this project?"
      verb="Delete"
      isDangerous
      isHeld=${typed.trim() !== project.name.trim()}
      act=${() => deleteProject(project.id)}
    >
      <p>
        “<bdi>${project.name}</bdi>” goes with its document, its history and all its messages, for all its members. What runs is
        stopped. This can't be undone.
      </p>
      <label class="field">
        Type the project's name to confirm
        <input dir="auto" autocomplete="off" autofocus value=${typed} onInput=${(event) => setTyped(event.currentTarget.value)} />
      </label>
    <//>
  `;
}
