import { useEffect, useState } from "../../vendor/preact-hooks.js";
import { copy } from "../actions/copy.js";
import { html } from "../html.js";

export const COPIED_SHOWN_MS = 2000;

/** Copies `text`, and says for a moment whether it did. `what` names the text. */
export function CopyButton({ text, what }) {
  const [outcome, setOutcome] = useState(null);
  useEffect(() => {
    if (outcome === null) return undefined;
    const timer = setTimeout(() => setOutcome(null), COPIED_SHOWN_MS);
    return () => clearTimeout(timer);
  }, [outcome]);
  const onClick = async () => setOutcome((await copy(text, what)) ? "Copied" : "Not copied");
  return html`<button type="button" class="link" onClick=${onClick}>
    ${outcome ?? "Copy"}<span class="visually-hidden"> ${what.toLowerCase()}</span>
  </button>`;
}
