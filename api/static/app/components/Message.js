import { useRef } from "../../vendor/preact-hooks.js";
import { editAndAskAgain } from "../actions/compose.js";
import { FINAL_STATUSES } from "../fold.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { CopyButton } from "./CopyButton.js";
import { useFocusKept } from "./focus.js";
import { JobCard } from "./JobCard.js";
import { Markdown } from "./Markdown.js";
import { Outcome } from "./Outcome.js";
import { Progress } from "./Progress.js";
import { ToolCall } from "./ToolCall.js";
import { VersionLinks } from "./VersionLinks.js";

/** One message, the user's or the assistant's. `source` is the signal that holds its state. */
export function Message({ source }) {
  const message = source.value;
  return message.role === "user"
    ? html`<${StoredUserMessage} message=${message} />`
    : html`<${AssistantMessage} message=${message} />`;
}

function AssistantMessage({ message }) {
  const root = useRef(null);
  useFocusKept(root);
  const isFinal = FINAL_STATUSES.has(message.status);
  return html`
    <li
      class="message assistant"
      ref=${root}
      tabindex="-1"
      data-message-id=${message.id}
      data-status=${message.status}
      aria-busy=${!isFinal}
    >
      <span class="visually-hidden">Assistant:</span>
      ${message.content && html`<${Markdown} text=${message.content} isWhole=${isFinal} />`}
      ${message.toolCalls.length > 0 &&
      html`<div class="tool-calls">
        ${message.toolCalls.map(
          (call) =>
            html`<${ToolCall} key=${call.toolCallId} messageId=${message.id} call=${call} isFinal=${isFinal} />`,
        )}
      </div>`}
      <${JobCard} message=${message} />
      <${VersionLinks} message=${message} />
      ${isFinal ? html`<${Outcome} message=${message} />` : html`<${Progress} message=${message} />`}
    </li>
  `;
}

function StoredUserMessage({ message }) {
  const { id, content, author } = message;
  const isMine = author == null || author === state.me.value?.user;
  const isNamed = author != null && state.me.value !== null && (!isMine || state.hasSeveralAuthors.value);
  return html`
    <${UserMessage} id=${id} content=${content} author=${isNamed ? author : null}>
      <p class="message-actions">
        <${CopyButton} text=${content} what="The message" />
        ${state.canWrite.value &&
        html`<button type="button" class="link" onClick=${() => editAndAskAgain(id)}>
          Edit<span class="visually-hidden"> and ask again</span>
        </button>`}
      </p>
    <//>
  `;
}

/** What a person wrote; `author` where it is to be named. */
export function UserMessage({ id, content, author, children }) {
  const isEdited = id !== undefined && state.rewriting.value === id;
  return html`
    <li class="message user" data-message-id=${id} data-editing=${isEdited}>
      ${author
        ? html`<p class="author"><bdi>${author}</bdi><span class="visually-hidden">:</span></p>`
        : html`<span class="visually-hidden">You:</span>`}
      <div class="bubble" dir="auto">${content}</div>
      ${children}
    </li>
  `;
}
