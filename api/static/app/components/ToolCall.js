import { loadChanges } from "../actions/changes.js";
import { html } from "../html.js";
import { CallChanges } from "./CallChanges.js";

const STATES = {
  started: { mark: "…", words: "running" },
  succeeded: { mark: "✓", words: "done" },
  failed: { mark: "!", words: "failed" },
  unfinished: { mark: "–", words: "not finished" },
};

/** One tool call: what became of it in a line, and folded below it what it was asked and what it changed. */
export function ToolCall({ messageId, call, isFinal }) {
  const state = call.state === "started" && isFinal ? "unfinished" : call.state;
  const { mark, words } = STATES[state];
  const effect = call.error ?? call.finalContent ?? words;
  const mayHaveChanged = state === "succeeded" && call.jobId == null;
  const onToggle = (event) => {
    if (event.currentTarget.open && mayHaveChanged) loadChanges(messageId, call);
  };
  return html`
    <details class="tool-call" data-state=${state} onToggle=${onToggle}>
      <summary>
        <span class="tool-mark" aria-hidden="true">${mark}</span>
        <span class="tool-name">${call.name}</span>
        <span class="tool-effect" dir="auto">${effect}</span>
        <span class="visually-hidden">(${words})</span>
      </summary>
      <div class="tool-body">
        ${(call.finalContent || call.error) && html`<p class="tool-result" dir="auto">${call.error ?? call.finalContent}</p>`}
        ${mayHaveChanged && html`<${CallChanges} messageId=${messageId} call=${call} />`}
        <p class="tool-part">What it was asked</p>
        <${Arguments} value=${call.arguments} />
      </div>
    </details>
  `;
}

/** Patch operations as lines that a person can read; everything else as JSON. */
function Arguments({ value }) {
  const parsed = parse(value);
  const operations = parsed?.operations;
  if (!Array.isArray(operations) || !operations.every((operation) => typeof operation?.op === "string")) {
    return html`<pre tabindex="0" role="group" aria-label="Arguments">${typeof parsed === "string" ? parsed : JSON.stringify(parsed, null, 2)}</pre>`;
  }
  return html`
    ${typeof parsed.explanation === "string" && html`<p dir="auto">${parsed.explanation}</p>`}
    <ul class="operations">
      ${operations.map(
        (operation) => html`
          <li>
            <span class="operation" data-op=${operation.op}>${operation.op}</span>
            <code>${operation.from !== undefined ? `${operation.from} → ` : ""}${operation.path}</code>
            ${operation.value !== undefined && html`<pre tabindex="0" role="group" aria-label="Value">${JSON.stringify(operation.value, null, 2)}</pre>`}
          </li>
        `,
      )}
    </ul>
  `;
}

/** Arguments that are not JSON stay the text that the model wrote. */
function parse(value) {
  if (typeof value !== "string") return value ?? {};
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
