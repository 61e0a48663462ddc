import { adviceFor } from "../advice.js";
import { editAndAskAgain, focusComposer, retry } from "../actions/compose.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { CopyButton } from "./CopyButton.js";

/** How a final message ended, and what can be done about it. */
export function Outcome({ message }) {
  const figures = html`<${Figures} message=${message} />`;
  const copy = message.content && html`<${CopyButton} text=${message.content} what="The answer" />`;
  if (message.status === "cancelled") {
    return html`<div class="outcome" data-outcome="cancelled">
      <span class="stopped">Stopped.</span> <${Again} message=${message} label="Go on" isPlain /> ${copy} ${figures}
    </div>`;
  }
  if (message.status === "error") {
    const { code, detail } = message.error ?? {};
    const { words, isForOperator, rephrase } = adviceFor(code);
    const question = rephrase && state.canWrite.value && state.messages.has(message.replyTo) ? message.replyTo : null;
    return html`
      <div class="failure" data-outcome="error">
        <p class="failure-detail" dir="auto"><strong>This answer failed.</strong> ${detail}</p>
        <p class="advice">${words}</p>
        <p class="failure-actions">
          <${Again} message=${message} label="Try again" isPlain=${isForOperator} />
          ${question &&
          html`<button type="button" class="link" onClick=${() => editAndAskAgain(question)}>Edit and ask again</button>`}
          ${copy} ${code && html`<code>${code}</code>`}
        </p>
        ${figures}
      </div>
    `;
  }
  return html`
    <div class="outcome" data-outcome="success">
      <span class="visually-hidden">Done.</span>
      ${copy} <${Again} message=${message} label="Ask again" isPlain /> ${figures}
    </div>
  `;
}

function Again({ message, label, isPlain }) {
  if (!state.canWrite.value) return null;
  const onClick = () => {
    retry(message.id);
    focusComposer();
  };
  return html`<button type="button" class=${isPlain ? "link" : "small"} onClick=${onClick}>${label}</button>`;
}

/** How long it took, in a line; unfolded, what that is made of. */
function Figures({ message }) {
  const { timing, usage, attempt, model } = message;
  const summary = [
    timing?.firstTokenMs != null && `first word ${seconds(timing.firstTokenMs)}`,
    timing?.totalMs != null && `${seconds(timing.totalMs)} in all`,
  ].filter(Boolean);
  if (summary.length === 0) return null;
  const rows = [
    ["Waited in line", timing.queuedMs, seconds],
    ["Model's first word after", timing.firstByteMs, seconds],
    ["First word after", timing.firstTokenMs, seconds],
    ["In tools", timing.toolsMs, seconds],
    ["Whole answer after", timing.totalMs, seconds],
    ["Tokens read", usage?.promptTokens, figure],
    ["Tokens written", usage?.completionTokens, figure],
    ["Attempts", attempt, figure],
    ["Model", model, String],
  ].filter(([, value]) => value != null);
  return html`
    <details class="figures">
      <summary>${summary.join(" · ")}</summary>
      <dl>
        ${rows.map(([name, value, shown]) => html`<div><dt>${name}</dt><dd>${shown(value)}</dd></div>`)}
      </dl>
    </details>
  `;
}

function seconds(durationMs) {
  return `${(durationMs / 1000).toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} s`;
}

function figure(number) {
  return number.toLocaleString("en");
}
