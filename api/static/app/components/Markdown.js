import { useLayoutEffect, useRef } from "../../vendor/preact-hooks.js";
import { copy } from "../actions/copy.js";
import { html } from "../html.js";
import { GrowingMarkdown } from "../markdown.js";
import { COPIED_SHOWN_MS } from "./CopyButton.js";

/** Text as markdown, growing in place while it streams. */
export function Markdown({ text, isWhole }) {
  const root = useRef(null);
  const shown = useRef(null);
  useLayoutEffect(() => {
    shown.current ??= new GrowingMarkdown(root.current);
    shown.current.show(text, isWhole);
  }, [text, isWhole]);
  return html`<div class="markdown" dir="auto" ref=${root} onClick=${onClick}></div>`;
}

/** The buttons of code blocks are the parser's, not the page's: their clicks are heard from above. */
async function onClick({ target }) {
  const button = target.closest("button.copy-code");
  if (!button) return;
  const code = button.closest(".code-block").querySelector("code").textContent;
  button.textContent = (await copy(code, "The code")) ? "Copied" : "Not copied";
  setTimeout(() => {
    button.textContent = "Copy";
  }, COPIED_SHOWN_MS);
}
