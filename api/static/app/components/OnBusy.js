import { chooseOnBusy } from "../actions/compose.js";
import { html } from "../html.js";
import * as state from "../state.js";

const CHOICES = [
  { value: "queue", label: "Wait in line", words: "Answered after those before it, which it then knows." },
  { value: "parallel", label: "At once", words: "Answered beside the unfinished ones, without knowing them." },
  { value: "interrupt", label: "Instead", words: "Stops what is being written, keeps its text, and goes first." },
];

/** What the next message does, asked while an answer is unfinished. */
export function OnBusy() {
  const chosen = CHOICES.find(({ value }) => value === state.onBusy.value) ?? CHOICES[0];
  return html`
    <fieldset class="on-busy" aria-describedby="on-busy-words">
      <legend class="visually-hidden">While an answer is unfinished, the next message is sent to</legend>
      <span class="on-busy-choices">
        ${CHOICES.map(
          ({ value, label }) => html`<label>
            <input
              type="radio"
              name="on-busy"
              value=${value}
              checked=${value === chosen.value}
              onChange=${() => chooseOnBusy(value)}
            />
            <span>${label}</span>
          </label>`,
        )}
      </span>
      <span class="quiet" id="on-busy-words">${chosen.words}</span>
    </fieldset>
  `;
}
