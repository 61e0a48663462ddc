import { copyText } from "../../app/clipboard.js";
import { html } from "../../app/html.js";
import { useEffect, useState } from "../../vendor/preact-hooks.js";

const SHOWN_MS = 2000;

/** Copies `text`, and says for a moment whether it did. `what` names it. */
export function CopyButton({ text, what }) {
  const [outcome, setOutcome] = useState(null);
  useEffect(() => {
    if (outcome === null) return undefined;
    const timer = setTimeout(() => setOutcome(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [outcome]);
  const onClick = async () => setOutcome((await copyText(text)) ? "Copied" : "Not copied");
  return html`<button type="button" class="link" onClick=${onClick}>
    <span role="status">${outcome ?? "Copy"}</span><span class="visually-hidden"> ${what.toLowerCase()}</span>
  </button>`;
}
