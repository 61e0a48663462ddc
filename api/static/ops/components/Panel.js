import { html } from "../../app/html.js";
import { useId } from "../../vendor/preact-hooks.js";

/** A part of the page under a heading. `isPlain`: nothing in it takes the focus, so that it does itself, to be scrolled. */
export function Panel({ title, note, actions, isPlain = false, children }) {
  const id = useId();
  return html`
    <section class="panel" data-panel=${title} aria-labelledby=${id}>
      <header class="panel-head">
        <h2 id=${id}>${title}</h2>
        ${note && html`<span class="quiet">${note}</span>`}
        ${actions}
      </header>
      <div class="table-frame" ...${isPlain ? { tabindex: 0, role: "group", "aria-labelledby": id } : {}}>${children}</div>
    </section>
  `;
}
