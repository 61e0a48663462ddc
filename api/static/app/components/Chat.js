import { useLayoutEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { send, sendAgain, takeBack } from "../actions/compose.js";
import { loadOlder } from "../actions/messages.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { Composer } from "./Composer.js";
import { Message, UserMessage } from "./Message.js";

const SUGGESTIONS = [
  "Add a title scene that says Hello",
  "Make the background dark blue",
  "What is in this document?",
  "Make the second scene 8 seconds long",
  "Write a short poem about the sea",
];
/** How near to the bottom counts as being there, and how near to the top loads what is older. */
const BOTTOM_PX = 40;
const TOP_PX = 200;

/** The messages and the composer. */
export function Chat() {
  const isEmpty = !state.opening.value && state.messageIds.value.length === 0 && state.outbox.value.length === 0;
  return html`
    <section class="chat" aria-label="Chat">
      <${Messages} isEmpty=${isEmpty} />
      <${ConnectionNote} />
      <${Composer} />
    </section>
  `;
}

function Messages({ isEmpty }) {
  const { scroller, list, isAtBottom, onScroll, toBottom } = useStickyBottom();
  const ids = state.messageIds.value;
  return html`
    <div class="messages" ref=${scroller} onScroll=${onScroll} tabindex="0" role="region" aria-label="Messages">
      <div class="messages-inner" ref=${list}>
        ${state.olderCursor.value !== null &&
        html`<p class="older">
          <button type="button" class="link" onClick=${loadOlder} disabled=${state.loadingOlder.value}>
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
    ${!isAtBottom &&
    html`<button type="button" class="to-bottom" onClick=${toBottom} aria-label="To the newest message">↓</button>`}
  `;
}

/**
 * Keeps the newest text in sight while the reader is at the bottom, and stays where the reader is otherwise: also when
 * older messages come in above.
 */
function useStickyBottom() {
  const scroller = useRef(null);
  const list = useRef(null);
  const reader = useRef({ sticks: true, lastTop: 0, firstId: null, fromBottom: 0 });
  const [isAtBottom, setAtBottom] = useState(true);
  const firstId = state.messageIds.value[0] ?? null;
  const projectId = state.project.value?.id;
  const waiting = state.outbox.value.length;

  const toBottom = () => {
    reader.current.sticks = true;
    scroller.current.scrollTop = scroller.current.scrollHeight;
    setAtBottom(true);
  };
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = scroller.current;
    const near = scrollHeight - scrollTop - clientHeight < BOTTOM_PX;
    if (near) reader.current.sticks = true;
    else if (scrollTop < reader.current.lastTop) reader.current.sticks = false;
    reader.current.lastTop = scrollTop;
    setAtBottom(near || reader.current.sticks);
    if (scrollTop < TOP_PX && !reader.current.sticks) loadOlder();
  };

  useLayoutEffect(() => {
    const element = scroller.current; // the last callback may come after it is gone from the page
    const observer = new ResizeObserver(() => {
      if (reader.current.sticks) element.scrollTop = element.scrollHeight;
    });
    observer.observe(list.current);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(toBottom, [projectId, waiting > 0]);
  useLayoutEffect(() => {
    const { firstId: anchorId, fromBottom } = reader.current;
    if (anchorId !== null && firstId !== anchorId && !reader.current.sticks) {
      scroller.current.scrollTop = scroller.current.scrollHeight - fromBottom;
      reader.current.lastTop = scroller.current.scrollTop;
    }
    reader.current.firstId = firstId;
  }, [firstId]);
  if (scroller.current) reader.current.fromBottom = scroller.current.scrollHeight - scroller.current.scrollTop;
  return { scroller, list, isAtBottom, onScroll, toBottom };
}

function Unsent({ item }) {
  return html`
    <${UserMessage} content=${item.content}>
      ${item.state === "sending" && html`<p class="outcome quiet">Sending…</p>`}
      ${item.state === "unknown" && html`<p class="outcome quiet">${item.detail}</p>`}
      ${item.state === "failed" &&
      html`<div class="failure unsent">
        <p dir="auto"><strong>Not sent.</strong> ${item.detail}</p>
        <p class="failure-actions">
          <button type="button" class="small" onClick=${() => sendAgain(item.key)}>Send again</button>
          <button type="button" class="link" onClick=${() => takeBack(item.key)}>Edit</button>
        </p>
      </div>`}
    <//>
  `;
}

function Suggestions() {
  return html`
    <div class="suggestions">
      <h2>What shall we make?</h2>
      <p class="quiet">Ask for a change and see the document follow, or ask anything.</p>
      <ul>
        ${SUGGESTIONS.map(
          (text) => html`<li>
            <button type="button" class="suggestion" onClick=${() => send(text)}>${text}</button>
          </li>`,
        )}
      </ul>
    </div>
  `;
}

function ConnectionNote() {
  if (state.connection.value === "ok") return null;
  return html`<p class="connection" data-connection=${state.connection.value}>
    ${state.connection.value === "lost" ? "Connection lost – trying again." : "Connected again."}
  </p>`;
}
