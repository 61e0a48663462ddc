import { html } from "../html.js";

/** Where a person writes JSON; what is wrong with it is said below, by line and column. */
export function JsonField({ label, text, onText, problem, rows = 10 }) {
  return html`
    <label class="field">
      ${label}
      <textarea
        class="code"
        dir="ltr"
        rows=${rows}
        spellcheck="false"
        value=${text}
        aria-invalid=${problem ? "true" : undefined}
        aria-describedby="json-state"
        onInput=${(event) => onText(event.currentTarget.value)}
      ></textarea>
    </label>
    <p id="json-state" class=${problem ? "json-state form-error" : "json-state quiet"}>${problem ?? "This is valid JSON."}</p>
  `;
}
