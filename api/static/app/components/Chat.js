import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { focusComposer, send, sendAgain, takeBack } from "../actions/compose.js";
import { loadOlder } from "../actions/messages.js";
import { askFor } from "../actions/projects.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { suggestionsFor } from "../suggestions.js";
import { Composer } from "./Composer.js";
import { useFocusKept } from "./focus.js";
import { Message, UserMessage } from "./Message.js";
import { useStickyBottom } from "./scrolling.js";
import { SuggestionList } from "./SuggestionList.js";

/** The messages and the composer. */
export function Chat() {
  useEffect(() => {
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
  const isEmpty = !state.opening.value && state.messageIds.value.length === 0 && state.outbox.value.length === 0;
  return html`
    <section class="chat" aria-labelledby="chat-heading">
      <h2 class="visually-hidden" id="chat-heading">Chat</h2>
      <${Messages} isEmpty=${isEmpty} />
      <${ConnectionNote} />
      <${Composer} />
    </section>
  `;
}

/** A question mark outside of a field shows the keys. */
function onKeyDown(event) {
  if (event.key !== "?" || event.isComposing || state.dialog.value) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  askFor("keys");
}

function Messages({ isEmpty }) {
  const { scroller, list, isAtBottom, onScroll, toBottom } = useStickyBottom();
  const ids = state.messageIds.value;
  useFocusKept(list, scroller);
  const onToBottom = () => {
    toBottom();
    scroller.current.focus({ preventScroll: true });
  };
  return html`
    <div class="messages-frame">
      <div class="messages" ref=${scroller} onScroll=${onScroll} tabindex="0" role="region" aria-label="Messages">
        <div class="messages-inner" ref=${list}>
          ${state.olderCursor.value !== null &&
          html`<p class="older">
            <button type="button" class="link" onClick=${loadOlder} aria-disabled=${state.loadingOlder.value}>
              ${state.loadingOlder.value ? "Loading…" : "Older messages"}
            </button>
          </p>`}
          ${state.opening.value && html`<p class="older quiet">Loading…</p>`}
          ${isEmpty
            ? html`<${Suggestions} />`
            : html`<ol class="message-list">
                ${ids.map((id) => html`<${Message} key=${id} source=${state.messages.get(id)} />`)}
                ${state.outbox.value.map((item) => html`<${Unsent} key=${item.key} item=${item} />`)}
              </ol>`}
        </div>
      </div>
      ${!isAtBottom && html`<${ToBottom} onClick=${onToBottom} />`}
    </div>
  `;
}

/** Made when the reader leaves the bottom; marked once there is something that was not there then. */
function ToBottom({ onClick }) {
  const seen = useRef(state.newest.peek());
  const hasNews = state.newest.value !== seen.current;
  return html`<button type="button" class="to-bottom" data-news=${hasNews} onClick=${onClick}>
    <span aria-hidden="true">↓</span>
    <span class="visually-hidden">To the newest message${hasNews && " (there is more to read)"}</span>
  </button>`;
}

function Unsent({ item }) {
  const again = () => {
    sendAgain(item.key);
    focusComposer();
  };
  return html`
    <${UserMessage} content=${item.content}>
      ${item.state === "sending" && html`<p class="outcome quiet">Sending…</p>`}
      ${item.state === "unknown" && html`<p class="outcome quiet">${item.detail}</p>`}
      ${item.state === "failed" &&
      html`<div class="failure unsent">
        <p dir="auto"><strong>Not sent.</strong> ${item.detail}</p>
        <p class="failure-actions">
          <button type="button" class="small" onClick=${again}>Send again</button>
          <button type="button" class="link" onClick=${() => takeBack(item.key)}>Edit</button>
        </p>
      </div>`}
    <//>
  `;
}

function Suggestions() {
  if (!state.canWrite.value) return html`<p class="suggestions quiet">Nothing was asked here yet.</p>`;
  const ask = (text) => {
    send(text);
    focusComposer();
  };
  return html`
    <div class="suggestions">
      <h3>What shall we make?</h3>
      <p class="quiet">Ask for a change and see the document follow, or ask anything.</p>
      <${SuggestionList} items=${suggestionsFor(state.documentValue.value)} onChoose=${ask} />
    </div>
  `;
}

function ConnectionNote() {
  if (state.connection.value === "ok") return null;
  return html`<p class="connection" data-connection=${state.connection.value}>
    ${state.connection.value === "lost" ? "Connection lost – trying again." : "Connected again."}
  </p>`;
}
