import { html } from "../html.js";

/** Places of a document that are wrong, as the server names them: `{path, message}`. */
export function Places({ places }) {
  if (!places?.length) return null;
  return html`<ul class="places">
    ${places.map(
      ({ path, message }) => html`<li>
        <code>${path || "the whole document"}</code> <span dir="auto">${message}</span>
      </li>`,
    )}
  </ul>`;
}
