import { useState } from "../../vendor/preact-hooks.js";
import { createProject } from "../actions/projects.js";
import { html } from "../html.js";
import { parseJsonText } from "../json_text.js";
import { isContainer } from "../pointer.js";
import { JsonField } from "./JsonField.js";
import { Modal } from "./Modal.js";

const STARTS = [
  { value: "video", label: "A short video, with scenes to edit" },
  { value: "", label: "Empty" },
  { value: "own", label: "JSON of your own" },
];

/** A new project: its name, and the document that it begins with. */
export function CreateDialog() {
  const [start, setStart] = useState("video");
  const [text, setText] = useState("{\n  \n}");
  const act = (form) => createProject(form.get("name").trim() || "Untitled", startOf(start, text));
  return html`
    <${Modal} title="New project" verb="Create" act=${act}>
      <label class="field">Name <input name="name" dir="auto" maxlength="200" defaultValue="My video" autofocus /></label>
      <fieldset>
        <legend>Document</legend>
        ${STARTS.map(
          ({ value, label }) => html`<label>
            <input type="radio" name="start" value=${value} checked=${start === value} onChange=${() => setStart(value)} /> ${label}
          </label>`,
        )}
      </fieldset>
      ${start === "own" && html`<${JsonField} label="The document" text=${text} onText=${setText} problem=${documentProblem(text)} />`}
    <//>
  `;
}

/** What is wrong with the text as a document, in words, or null. */
function documentProblem(text) {
  try {
    return isContainer(parseJsonText(text)) ? null : "A document is an object or an array.";
  } catch (error) {
    return error.message;
  }
}

function startOf(start, text) {
  if (start === "video") return { template: "video" };
  if (start === "") return {};
  const problem = documentProblem(text);
  if (problem) throw new Error(problem);
  return { document: parseJsonText(text) };
}
