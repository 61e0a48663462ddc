import { useLayoutEffect, useRef } from "../../vendor/preact-hooks.js";
import { html } from "../html.js";
import { GrowingMarkdown } from "../markdown.js";

/** Text as markdown, growing in place while it streams. */
export function Markdown({ text, isWhole }) {
  const root = useRef(null);
  const shown = useRef(null);
  useLayoutEffect(() => {
    shown.current ??= new GrowingMarkdown(root.current);
    shown.current.show(text, isWhole);
  }, [text, isWhole]);
  return html`<div class="markdown" dir="auto" ref=${root}></div>`;
}
