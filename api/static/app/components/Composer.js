import { useEffect, useLayoutEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { cancel, editNewest, focusComposer, restoreUnsent, send, stopEditing } from "../actions/compose.js";
import { storedDraft, storeDraft } from "../actions/drafts.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { ComposerFoot, CONTENT_MOST } from "./ComposerFoot.js";
import { useFocusKept } from "./focus.js";
import { OnBusy } from "./OnBusy.js";

/** Where a person writes; who may only read the project is told so in its place. */
export function Composer() {
  return state.canWrite.value ? html`<${Writing} />` : html`<${Reading} />`;
}

function Reading() {
  return html`
    <div class="composer">
      <div class="composer-box">
        <textarea
          rows="1"
          readonly
          aria-label="Message"
          aria-describedby="why-read-only"
          placeholder="You can read this project"
        ></textarea>
      </div>
      <p class="composer-foot quiet" id="why-read-only">
        You are a viewer here. An owner of the project can make you an editor.
      </p>
    </div>
  `;
}

/** Enter sends, Shift+Enter makes a new line, Esc stops what runs, ArrowUp in an empty field edits the newest message. */
function Writing() {
  const form = useRef(null);
  const field = useRef(null);
  const projectId = state.project.value?.id;
  const runningId = state.runningId.value;
  const { text, write, leaveEditing, afterSending } = useDraft(field, projectId);
  const length = [...text].length;
  const canSend = projectId && text.trim() !== "" && length <= CONTENT_MOST;
  useFocusKept(form, field);

  useEffect(() => {
    const popsUpKeyboard = !matchMedia("(pointer: fine)").matches;
    if (projectId && !popsUpKeyboard && !document.querySelector("dialog[open]")) field.current.focus();
  }, [projectId, state.composerFocus.value]);
  useLayoutEffect(() => {
    field.current.style.height = "auto";
    field.current.style.height = `${field.current.scrollHeight}px`;
  }, [text]);

  const submit = (event) => {
    event?.preventDefault();
    if (!canSend) return;
    send(text.trim());
    afterSending();
    field.current.focus();
  };
  const stop = () => {
    cancel(runningId);
    focusComposer();
  };
  const onKeyDown = (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && text === "") {
      event.preventDefault();
      editNewest();
    } else if (event.key === "Escape" && state.rewriting.value !== null) {
      event.stopPropagation(); // it leaves the editing, and stops nothing
      leaveEditing();
    }
  };

  return html`
    <form class="composer" ref=${form} onSubmit=${submit}>
      ${state.rewriting.value !== null &&
      html`<p class="editing">
        <span><strong>Editing.</strong> Send asks anew; what was asked and answered before stays.</span>
        <button type="button" class="link" onClick=${leaveEditing}>Leave it</button>
      </p>`}
      ${state.isBusy.value && text !== "" && html`<${OnBusy} />`}
      <div class="composer-box">
        <textarea
          ref=${field}
          rows="1"
          dir="auto"
          aria-label="Message"
          placeholder=${runningId === null ? "Ask, or say what to change" : "Ask the next thing"}
          value=${text}
          onInput=${(event) => write(event.currentTarget.value)}
          onKeyDown=${onKeyDown}
        ></textarea>
        <div class="composer-buttons">
          ${runningId !== null &&
          html`<button type="button" class="stop" onClick=${stop}>
            <span class="stop-mark" aria-hidden="true">■</span> <span class="stop-word">Stop</span>
          </button>`}
          <button type="submit" class="primary" disabled=${!canSend}>Send</button>
        </div>
      </div>
      <${ComposerFoot} length=${length} />
    </form>
  `;
}

/** The text that is being written, kept for each project as long as the tab lasts; editing sets it aside for a while. */
function useDraft(field, projectId) {
  const [text, setText] = useState("");
  const setAside = useRef(null);
  const { text: given, turn } = state.draft.value;
  const write = (newText) => {
    setText(newText);
    if (projectId && state.rewriting.peek() === null) storeDraft(projectId, newText);
  };
  const takeUp = () => {
    const kept = setAside.current ?? "";
    setAside.current = null;
    write(kept);
  };

  useEffect(() => {
    setAside.current = null;
    if (!projectId) {
      setText("");
      return;
    }
    setText((current) => current || storedDraft(projectId));
    restoreUnsent();
  }, [projectId]);
  useEffect(() => {
    if (turn === 0) return;
    if (state.rewriting.peek() !== null) setAside.current ??= text;
    write(given);
    field.current.focus();
  }, [turn]);

  return {
    text,
    write,
    /** Ends the editing without sending; what was being written before is back. */
    leaveEditing() {
      stopEditing();
      takeUp();
      field.current.focus();
    },
    /** The field for the next message: empty, or what was set aside. */
    afterSending: takeUp,
  };
}
