import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { refreshDocument } from "../actions/document.js";
import { backToNow, walk } from "../actions/history.js";
import { searchFor, stepMatch } from "../actions/tree.js";
import { html } from "../html.js";
import { resolve } from "../pointer.js";
import { MOST_MATCHES } from "../search.js";
import * as state from "../state.js";
import { Conflict } from "./Conflict.js";
import { Editor } from "./Editor.js";
import { Note } from "./Note.js";
import { PartActions } from "./PartActions.js";
import { isTextField, onUndoKeys } from "./shortcuts.js";
import { Tree } from "./Tree.js";

/** The project's document: found, changed by hand, and seen changing. */
export function DocumentPane() {
  const version = state.documentVersion.value;
  const edit = state.editing.value;
  const isAdrift = edit !== null && resolve(state.shownDocument.value, edit.pointer) === undefined;
  return html`
    <section class="document" aria-label="Document" onKeyDown=${onUndoKeys}>
      <header class="pane-head">
        <h2 class="visually-hidden">Document</h2>
        ${version !== null && html`<span class="quiet" data-version=${version}>version ${version}</span>`}
        <span class="pane-actions">
          ${state.canEdit.value &&
          html`
            <button type="button" class="link" onClick=${() => walk("undo")} disabled=${edit !== null || version === 1}>Undo</button>
            <button type="button" class="link" onClick=${() => walk("redo")} disabled=${edit !== null || version === 1}>Redo</button>
          `}
          <button type="button" class="link" onClick=${refreshDocument} disabled=${version === null}>Refresh</button>
        </span>
      </header>
      ${version !== null && html`<${Search} />`}
      <${Former} />
      <${Note} />
      ${state.conflict.value && html`<${Conflict} />`}
      ${isAdrift && html`<div class="adrift"><${Editor} /></div>`}
      ${version === null
        ? html`<p class="pane-empty quiet">${state.opening.value ? "Loading…" : "The document could not be loaded."}</p>`
        : html`<${Tree} />`}
      ${version !== null && html`<${PartActions} />`}
    </section>
  `;
}

function Search() {
  const field = useRef(null);
  const { text, at } = state.search.value;
  const count = state.matches.value.length;
  useEffect(() => {
    const onSlash = (event) => {
      const isFree = !event.ctrlKey && !event.metaKey && !event.altKey && !event.defaultPrevented;
      if (event.key !== "/" || !isFree || isTextField(event.target) || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      field.current.focus();
      field.current.select();
    };
    document.addEventListener("keydown", onSlash);
    return () => document.removeEventListener("keydown", onSlash);
  }, []);
  const onKeyDown = (event) => {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      stepMatch(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape" && text !== "") {
      event.stopPropagation(); // it would stop an answer
      event.preventDefault();
      searchFor("");
    }
  };
  return html`
    <div class="search" role="search">
      <input
        ref=${field}
        type="search"
        dir="auto"
        aria-label="Search the document"
        aria-keyshortcuts="/"
        placeholder="Search (/)"
        value=${text}
        onInput=${(event) => searchFor(event.currentTarget.value)}
        onKeyDown=${onKeyDown}
      />
      ${text.trim() !== "" &&
      html`
        <span class="search-count quiet" role="status">${countInWords(count, at)}</span>
        <button type="button" class="small" aria-label="Previous match" disabled=${!count} onClick=${() => stepMatch(-1)}>
          ↑
        </button>
        <button type="button" class="small" aria-label="Next match" disabled=${!count} onClick=${() => stepMatch(1)}>
          ↓
        </button>
      `}
    </div>
  `;
}

function countInWords(count, at) {
  if (count === 0) return "none";
  return `${at + 1} of ${count === MOST_MATCHES ? `${count} or more` : count}`;
}

/** Says that it is a former document that is shown. */
function Former() {
  const looking = state.lookingAt.value;
  if (looking === null) return null;
  return html`
    <div class="banner" role="status">
      <p><strong>Version ${looking.version}</strong>, as it was then. It can't be changed.</p>
      <button type="button" class="small" onClick=${backToNow}>Back to now</button>
    </div>
  `;
}
