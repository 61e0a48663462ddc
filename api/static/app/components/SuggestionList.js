import { html } from "../html.js";

/** Requests that are worth trying (suggestions.js); the one that is chosen is handed to `onChoose`. */
export function SuggestionList({ items, onChoose, isBusy = false }) {
  return html`
    <ul>
      ${items.map(
        ({ text, hint }) => html`<li>
          <button type="button" class="suggestion" disabled=${isBusy} onClick=${() => onChoose(text)}>
            <span class="suggestion-text">${text}</span> <span class="quiet">${hint}</span>
          </button>
        </li>`,
      )}
    </ul>
  `;
}
