import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { refreshDocument, setUnfolded } from "../actions/document.js";
import { escapeToken } from "../diff.js";
import { html } from "../html.js";
import * as state from "../state.js";

/** Members of one object or array that are shown before the reader asks for the rest. */
const SHOWN_FIRST = 100;
/** Containers down to this depth are open from the start. */
const OPEN_DEPTH = 2;

/** The project's document as a tree; what changed just now is lit up, and opened where it is folded. */
export function DocumentPane() {
  const version = state.documentVersion.value;
  const pane = useRef(null);
  const lit = state.lit.value;
  useEffect(() => {
    if (!lit.size) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    pane.current.querySelector("[data-lit]")?.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  }, [lit]);
  return html`
    <section class="document" aria-label="Document">
      <header class="pane-head">
        <h2>Document</h2>
        ${version !== null && html`<span class="quiet" data-version=${version}>version ${version}</span>`}
        <button type="button" class="link" onClick=${refreshDocument} disabled=${version === null}>Refresh</button>
      </header>
      <div class="tree" ref=${pane} tabindex="0" role="region" aria-label="The document's content">
        ${version !== null && html`<ul><${Node} value=${state.documentValue.value} pointer="" depth=${0} /></ul>`}
      </div>
    </section>
  `;
}

function Node({ name, value, pointer, depth }) {
  const mark = state.lit.value.get(pointer);
  if (typeof value !== "object" || value === null) {
    const kind = value === null ? "null" : typeof value;
    return html`<li data-pointer=${pointer} data-lit=${mark}>
      <${Name} name=${name} /><span class=${kind} dir="auto">${JSON.stringify(value)}</span>
    </li>`;
  }
  const isOpen = state.unfolded.value.get(pointer) ?? depth < OPEN_DEPTH;
  const onToggle = (event) => {
    if (event.currentTarget.open !== isOpen) setUnfolded(pointer, event.currentTarget.open);
  };
  return html`<li data-pointer=${pointer} data-lit=${mark}>
    <details open=${isOpen} onToggle=${onToggle}>
      <summary><${Name} name=${name ?? "document"} /><span class="quiet" dir="auto">${summaryOf(value)}</span></summary>
      ${isOpen && html`<${Members} value=${value} pointer=${pointer} depth=${depth + 1} />`}
    </details>
  </li>`;
}

function Members({ value, pointer, depth }) {
  const [shown, setShown] = useState(SHOWN_FIRST);
  const entries = Object.entries(value);
  return html`<ul>
    ${entries.slice(0, shown).map(([key, member]) => {
      const child = `${pointer}/${escapeToken(key)}`;
      return html`<${Node} key=${key} name=${key} value=${member} pointer=${child} depth=${depth} />`;
    })}
    ${entries.length > shown &&
    html`<li>
      <button type="button" class="link" onClick=${() => setShown(shown + 10 * SHOWN_FIRST)}>
        ${entries.length - shown} more
      </button>
    </li>`}
  </ul>`;
}

function Name({ name }) {
  return name === undefined ? null : html`<span class="name">${name}</span>`;
}

/** A word or two about a container, so that it need not be opened to be recognised. */
function summaryOf(value) {
  if (Array.isArray(value)) return value.length === 1 ? "1 item" : `${value.length} items`;
  const labels = ["title", "name", "type", "id"].map((key) => value[key]);
  const label = labels.find((text) => typeof text === "string" && text !== "");
  const count = Object.keys(value).length;
  return label ?? (count === 0 ? "empty" : "");
}
