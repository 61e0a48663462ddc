import { chooseModel } from "../actions/compose.js";
import { askFor } from "../actions/projects.js";
import { html } from "../html.js";
import * as state from "../state.js";

/** The longest message that the server takes, in characters, and from where on the page counts them. */
export const CONTENT_MOST = 32_000;
const COUNT_FROM = 31_000;

/** Below the field: who answers, and how many characters are left where they are few, else the keys. */
export function ComposerFoot({ length }) {
  return html`
    <div class="composer-foot quiet">
      <${Models} />
      ${length > COUNT_FROM
        ? html`<span data-too-long=${length > CONTENT_MOST}>${figure(length)} of ${figure(CONTENT_MOST)} characters</span>`
        : html`<span class="keys">
            Shift+Enter: new line · Esc: stop ·${" "}
            <button type="button" class="link" aria-haspopup="dialog" onClick=${() => askFor("keys")}>All keys</button>
          </span>`}
    </div>
  `;
}

function figure(number) {
  return number.toLocaleString("en");
}

function Models() {
  const info = state.info.value;
  if (!info) return null;
  if (info.scriptedModel) {
    return html`<span class="scripted">
      Answers come from the built-in scripted model. Set <code>OPENAI_API_KEY</code> for a real one.
    </span>`;
  }
  if (!(info.models?.length > 1)) return html`<span>${info.model}</span>`;
  return html`
    <label>
      <span class="visually-hidden">Model</span>
      <select value=${state.model.value ?? info.model} onChange=${(event) => chooseModel(event.currentTarget.value)}>
        ${info.models.map((name) => html`<option value=${name}>${name}</option>`)}
      </select>
    </label>
  `;
}
