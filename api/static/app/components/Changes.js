import { changeInWords } from "../differences.js";
import { html } from "../html.js";

/** More than so many are not drawn. */
const SHOWN_MOST = 50;

/** What was changed, place by place (differences.js): what went, what came. */
export function Changes({ changes }) {
  if (changes.length === 0) return html`<p class="quiet">No difference.</p>`;
  return html`
    <ul class="changes">
      ${changes.slice(0, SHOWN_MOST).map(
        (change) => html`<li data-kind=${change.kind}>
          <p class="change-words">${changeInWords(change)}</p>
          ${change.before !== undefined &&
          html`<del><span class="sign" aria-hidden="true">−</span><${Json} value=${change.before} /></del>`}
          ${change.after !== undefined &&
          html`<ins><span class="sign" aria-hidden="true">+</span><${Json} value=${change.after} /></ins>`}
        </li>`,
      )}
      ${changes.length > SHOWN_MOST && html`<li class="quiet">and ${changes.length - SHOWN_MOST} more</li>`}
    </ul>
  `;
}

function Json({ value }) {
  const whole = JSON.stringify(value, null, 2);
  const text = whole.length > 2000 ? `${whole.slice(0, 2000)}…` : whole;
  return html`<span class="json" dir="auto">${text}</span>`;
}
