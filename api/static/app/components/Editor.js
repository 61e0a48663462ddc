import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { cancelEdit, changeEdit, saveEdit, TYPES } from "../actions/editing.js";
import { html } from "../html.js";
import { lastToken, resolve } from "../pointer.js";
import * as state from "../state.js";
import { Places } from "./Places.js";

const TITLES = { value: "Change", add: "Add to", rename: "Rename" };

/** What is being changed by hand; there is one at a time. */
export function Editor() {
  const edit = state.editing.value;
  const form = useRef(null);
  useEffect(() => {
    const field = form.current.querySelector("[data-first]") ?? form.current.querySelector("select");
    field.focus();
    field.select?.();
  }, []);
  const { kind, pointer, base, type, problem, isBusy } = edit;
  const isOfObject = kind === "add" && !Array.isArray(resolve(base, pointer));
  const onSubmit = (event) => {
    event.preventDefault();
    saveEdit();
  };
  const onKeyDown = (event) => {
    event.stopPropagation();
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.preventDefault();
      cancelEdit();
    } else if (event.key === "Enter" && event.target.localName === "textarea" && isSaving(event, type)) {
      event.preventDefault();
      saveEdit();
    }
  };
  const where = pointer === "" ? "the document" : lastToken(pointer);
  return html`
    <form ref=${form} class="editor" aria-label=${`${TITLES[kind]} ${where}`} onSubmit=${onSubmit} onKeyDown=${onKeyDown}>
      ${(kind === "rename" || isOfObject) &&
      html`<label class="editor-field">
        <span>Key</span>
        <input
          data-first
          dir="auto"
          required
          value=${edit.key}
          disabled=${isBusy}
          aria-invalid=${problem ? "true" : undefined}
          aria-describedby=${problem ? "edit-problem" : undefined}
          onInput=${(event) => changeEdit({ key: event.currentTarget.value })}
        />
      </label>`}
      ${kind !== "rename" && html`<${ValueFields} edit=${edit} isFirst=${!isOfObject} />`}
      <${Beneath} beneath=${edit.beneath} />
      ${problem &&
      html`<div class="form-error" id="edit-problem" role="alert">
        <p>${problem.detail}</p>
        <${Places} places=${problem.places} />
      </div>`}
      <div class="editor-buttons">
        <button type="submit" class="small primary" disabled=${isBusy || state.conflict.value !== null}>Save</button>
        <button type="button" class="small" onClick=${cancelEdit}>Cancel</button>
      </div>
    </form>
  `;
}

/** Enter saves a line of text; in JSON it makes a new line, and Ctrl+Enter saves. */
function isSaving(event, type) {
  return type === "JSON" ? event.ctrlKey || event.metaKey : !event.shiftKey;
}

function ValueFields({ edit, isFirst }) {
  const { type, text, problem, isBusy } = edit;
  const isTyped = type === "text" || type === "number" || type === "JSON";
  return html`
    <label class="editor-field">
      <span>Type</span>
      <select value=${type} disabled=${isBusy} onChange=${(event) => changeEdit({ type: event.currentTarget.value })}>
        ${TYPES.map((name) => html`<option value=${name}>${name}</option>`)}
      </select>
    </label>
    ${isTyped &&
    html`<label class="editor-field">
      <span>Value</span>
      <textarea
        data-first=${isFirst}
        class=${type === "JSON" ? "code" : ""}
        dir=${type === "text" ? "auto" : "ltr"}
        rows=${rowsFor(type, text)}
        spellcheck=${type === "text"}
        inputmode=${type === "number" ? "decimal" : undefined}
        value=${text}
        disabled=${isBusy}
        aria-invalid=${problem ? "true" : undefined}
        aria-describedby=${problem ? "edit-problem" : undefined}
        onInput=${(event) => changeEdit({ text: event.currentTarget.value })}
      ></textarea>
    </label>`}
  `;
}

function rowsFor(type, text) {
  const lines = text.split("\n").length;
  if (type === "JSON") return Math.min(16, Math.max(3, lines));
  return type === "number" ? 1 : Math.min(8, Math.max(lines, Math.ceil(text.length / 40), 1));
}

/** Says that somebody else changed what is being edited. */
function Beneath({ beneath }) {
  if (beneath === null) return null;
  return html`<p class="beneath" role="alert">
    ${beneath.exists
      ? html`Somebody else changed this meanwhile; it is now <code dir="auto">${shortJson(beneath.value)}</code>`
      : "Somebody else took this away meanwhile."}
  </p>`;
}

export function shortJson(value) {
  const whole = JSON.stringify(value);
  return whole.length > 160 ? `${whole.slice(0, 160)}…` : whole;
}
