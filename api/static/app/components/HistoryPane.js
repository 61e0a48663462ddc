import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import {
  chooseCompared,
  compare,
  endComparison,
  findMessage,
  loadNewestVersions,
  loadOlderVersions,
  lookAt,
  unfoldVersion,
  walk,
} from "../actions/history.js";
import { changesOfVersion, summaryOf } from "../differences.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { Changes } from "./Changes.js";
import { Note } from "./Note.js";
import { onUndoKeys } from "./shortcuts.js";
import { Time } from "./Time.js";

const BOTTOM_PX = 300;

/** The versions of the document, newest first. */
export function HistoryPane() {
  const { items, nextCursor, isLoading, error } = state.versions.value;
  const newest = state.documentVersion.value;
  const list = useRef(null);
  const open = state.openVersion.value;
  useEffect(() => {
    if (newest !== null) loadNewestVersions();
  }, [newest]);
  const isOpenThere = items.some(({ version }) => version === open);
  useEffect(() => {
    if (isOpenThere) list.current.querySelector(`[data-of-version="${open}"]`)?.scrollIntoView({ block: "nearest" });
  }, [open, isOpenThere]);
  const onScroll = ({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
    if (scrollHeight - scrollTop - clientHeight < BOTTOM_PX) loadOlderVersions();
  };
  const marks = marksOf(items);
  return html`
    <section class="document history" aria-label="History" onKeyDown=${onUndoKeys}>
      <header class="pane-head">
        <h2 class="visually-hidden">History</h2>
        <span class="pane-actions">
          ${state.canEdit.value &&
          html`
            <button type="button" class="link" onClick=${() => walk("undo")} disabled=${newest === 1}>Undo</button>
            <button type="button" class="link" onClick=${() => walk("redo")} disabled=${newest === 1}>Redo</button>
          `}
          ${newest > 1 &&
          html`<button type="button" class="link" aria-pressed=${state.comparison.value !== null} onClick=${toggleCompare}>
            Compare
          </button>`}
        </span>
      </header>
      <${Note} />
      ${state.comparison.value && html`<${Comparison} newest=${newest} />`}
      <div class="versions" ref=${list} onScroll=${onScroll} role="region" aria-label="Versions" tabindex="0">
        ${newest === 1 && html`<p class="pane-empty quiet">Nothing was changed yet. Each change of the document will stand here.</p>`}
        <ol>
          ${items.map((item) => html`<${Version} key=${item.version} item=${item} marks=${marks.get(item.version)} />`)}
          ${nextCursor === null && items.length > 0 && html`<${FirstVersion} />`}
        </ol>
        ${isLoading && html`<p class="pane-empty quiet">Loading…</p>`}
        ${error &&
        html`<p class="pane-empty form-error" role="alert">
          ${error}${" "}
          <button type="button" class="link" onClick=${items.length ? loadOlderVersions : loadNewestVersions}>Try again</button>
        </p>`}
        ${nextCursor !== null &&
        !isLoading &&
        html`<p class="pane-empty"><button type="button" class="link" onClick=${loadOlderVersions}>Older versions</button></p>`}
      </div>
    </section>
  `;
}

/** For each version `{of, isUndone}`: the edit that an undo or redo is about, and whether it is taken back by now. */
function marksOf(items) {
  const marks = new Map();
  for (const { version, undoes, redoes } of items.toReversed()) {
    const target = undoes ?? redoes;
    // an undo is of an edit, or of a redo of it; a redo is of an undo
    const edit = target === undefined ? version : (marks.get(target)?.of ?? target);
    marks.set(version, { of: edit, isUndone: false });
    if (target !== undefined && marks.has(edit)) marks.get(edit).isUndone = undoes !== undefined;
  }
  return marks;
}

function Version({ item, marks }) {
  const { version, createdAt, undoes, redoes } = item;
  const isOpen = state.openVersion.value === version;
  const changes = changesOfVersion(item);
  const onToggle = (event) => {
    if (event.currentTarget.open !== isOpen) unfoldVersion(event.currentTarget.open ? version : null);
  };
  return html`
    <li data-of-version=${version}>
      <details class="version" open=${isOpen} onToggle=${onToggle}>
        <summary>
          <span class="version-line">
            <strong>Version ${version}</strong>
            ${undoes !== undefined && html`<span class="mark-of">undo of ${marks.of}</span>`}
            ${redoes !== undefined && html`<span class="mark-of">redo of ${marks.of}</span>`}
            ${marks.isUndone && html`<span class="mark-of" data-undone>undone</span>`}
            <${Time} at=${createdAt} />
          </span>
          <span class="version-what" dir="auto">${summaryOf(changes)}</span>
        </summary>
        ${isOpen && html`<${Changes} changes=${changes} />`}
      </details>
      <p class="version-foot quiet">
        <${Author} item=${item} />
        <button type="button" class="link" onClick=${() => lookAt(version)} aria-label=${`Look at it: version ${version}`}>
          Look at it
        </button>
      </p>
    </li>
  `;
}

/** The document that the project was made with: no change made it. */
function FirstVersion() {
  return html`<li data-of-version="1">
    <p class="version-foot quiet">
      <span><strong>Version 1</strong>, as the project was made</span>
      <button type="button" class="link" onClick=${() => lookAt(1)} aria-label="Look at it: version 1">Look at it</button>
    </p>
  </li>`;
}

function Author({ item: { author, messageId } }) {
  if (messageId) {
    return html`<button type="button" class="link" onClick=${() => toMessage(messageId)}>by the assistant: to the message</button>`;
  }
  return html`<span>by <bdi>${author === state.me.value?.user ? "you" : (author ?? "somebody")}</bdi></span>`;
}

/** Shows the message in the chat and gives it the focus. */
async function toMessage(messageId) {
  if (!(await findMessage(messageId))) return;
  // older messages that came in first take their room, and the chat keeps to its end once more
  await nextFrame();
  await nextFrame();
  const message = document.querySelector(`[data-message-id="${messageId}"]`);
  if (!message) return;
  message.tabIndex = -1;
  message.scrollIntoView({ block: "center" });
  message.focus({ preventScroll: true });
}

function nextFrame() {
  return new Promise((resolve) => requestAnimationFrame(resolve));
}

function toggleCompare() {
  const newest = state.documentVersion.value;
  if (state.comparison.value === null) compare(newest - 1, newest);
  else endComparison();
}

function Comparison({ newest }) {
  const { from, to, changes, error } = state.comparison.value;
  return html`
    <div class="comparison" role="group" aria-label="Compare two versions">
      <div class="comparison-choice">
        <${Side} side="from" label="From" newest=${newest} />
        <${Side} side="to" label="to" newest=${newest} />
        <button type="button" class="link" onClick=${endComparison}>Close</button>
      </div>
      ${error && html`<p class="form-error" role="alert">${error}</p>`}
      ${from !== null && to !== null && !changes && !error && html`<p class="quiet">Comparing…</p>`}
      ${changes && html`<${Changes} changes=${changes} />`}
    </div>
  `;
}

/** The field is its user's alone: a comparison that comes in while a number is typed must not write another into it. */
function Side({ side, label, newest }) {
  const chosen = useRef(state.comparison.peek()[side]).current;
  const onChange = (event) => {
    const version = event.currentTarget.valueAsNumber;
    if (Number.isInteger(version) && version >= 1 && version <= newest) chooseCompared(side, version);
  };
  return html`<label>
    ${label}<span class="visually-hidden"> version</span>${" "}
    <input type="number" min="1" max=${newest} defaultValue=${chosen} onChange=${onChange} />
  </label>`;
}
