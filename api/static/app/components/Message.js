import { cancel, focusComposer, retry } from "../actions/compose.js";
import { FINAL_STATUSES } from "../fold.js";
import { html } from "../html.js";
import { JobCard } from "./JobCard.js";
import { Markdown } from "./Markdown.js";
import { ToolCall } from "./ToolCall.js";
import { VersionLinks } from "./VersionLinks.js";

/** What a person can do about an error, by its code; the others are worth another try. */
const ADVICE = {
  provider_quota: "The model's account has used up its quota. Whoever runs this server can raise it.",
  provider_auth: "The server's key for the model is not accepted. Whoever runs this server can put that right.",
  context_too_long: "The conversation or the document is too long for this model. A new project starts afresh.",
  content_filter: "The model's provider held the answer back. Asking differently may help.",
  refusal: "The model declined. Asking differently may help.",
  too_many_rounds: "The answer needed more steps than are allowed. Ask for it in smaller parts.",
  length: "The answer grew too long. Ask for it in smaller parts.",
};

/** One message, the user's or the assistant's. `source` is the signal that holds its state. */
export function Message({ source }) {
  const message = source.value;
  if (message.role === "user") return html`<${UserMessage} content=${message.content} />`;
  const isFinal = FINAL_STATUSES.has(message.status);
  return html`
    <li class="message assistant" data-message-id=${message.id} data-status=${message.status} aria-busy=${!isFinal}>
      <span class="visually-hidden">Assistant:</span>
      ${message.content && html`<${Markdown} text=${message.content} isWhole=${isFinal} />`}
      ${message.toolCalls.length > 0 &&
      html`<div class="tool-calls">
        ${message.toolCalls.map((call) => html`<${ToolCall} key=${call.toolCallId} call=${call} isFinal=${isFinal} />`)}
      </div>`}
      <${JobCard} message=${message} />
      <${VersionLinks} message=${message} />
      ${isFinal ? html`<${Outcome} message=${message} />` : html`<${Progress} message=${message} />`}
    </li>
  `;
}

export function UserMessage({ content, children }) {
  return html`
    <li class="message user">
      <span class="visually-hidden">You:</span>
      <div class="bubble" dir="auto">${content}</div>
      ${children}
    </li>
  `;
}

/** What an unfinished message is doing. */
function Progress({ message }) {
  const { words, tool } = progressOf(message);
  const isWaiting = message.activity === null && message.status === "pending";
  const stop = () => {
    cancel(message.id);
    focusComposer();
  };
  return html`
    <div class="progress" data-activity=${message.activity ?? "queued"}>
      <span class="dots" aria-hidden="true"><i></i><i></i><i></i></span>
      <span class="progress-words">${words}${tool && html` <code>${tool}</code>`}</span>
      ${isWaiting &&
      !message.stopping &&
      html`<button type="button" class="link" onClick=${stop}>Cancel</button>`}
    </div>
  `;
}

function progressOf(message) {
  if (message.stopping) return { words: "Stopping…" };
  switch (message.activity) {
    case "thinking":
      return { words: "Thinking…" };
    case "tool_calling": {
      const call = message.toolCalls.findLast(({ state }) => state === "started");
      return { words: "Calling", tool: call?.name ?? "a tool" };
    }
    case "building":
      return { words: "Building a component…" };
    case "writing":
      return { words: "Writing…" };
    case null:
      return { words: "Queued…" };
    default:
      return { words: "Working…" };
  }
}

/** How a final message ended, and what can be done about it. */
function Outcome({ message }) {
  const onClick = () => {
    retry(message.id);
    focusComposer();
  };
  const again = (label) => {
    const kind = message.status === "success" ? "link" : "small";
    return html`<button type="button" class=${kind} onClick=${onClick}>${label}</button>`;
  };
  if (message.status === "cancelled") {
    return html`<p class="outcome" data-outcome="cancelled"><span>Stopped.</span> ${again("Go on")}</p>`;
  }
  if (message.status === "error") {
    const { code, detail } = message.error ?? {};
    return html`
      <div class="failure" data-outcome="error">
        <p dir="auto"><strong>This answer failed.</strong> ${detail}</p>
        <p class="quiet">${ADVICE[code] ?? "Trying again goes on from what is stored; no change is made twice."}</p>
        <p class="failure-actions">${again("Try again")} ${code && html`<code>${code}</code>`}</p>
      </div>
    `;
  }
  return html`
    <p class="outcome" data-outcome="success">
      <span class="visually-hidden">Done.</span>
      <span>${figures(message)}</span>
      ${again("Ask again")}
    </p>
  `;
}

function figures({ timing, usage }) {
  const parts = [];
  if (timing?.totalMs != null) parts.push(`${(timing.totalMs / 1000).toFixed(1)} s`);
  if (usage?.totalTokens) parts.push(`${usage.totalTokens.toLocaleString("en")} tokens`);
  return parts.join(" · ");
}
