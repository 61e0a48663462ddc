import { useEffect, useLayoutEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { cancel, chooseModel, focusComposer, send } from "../actions/compose.js";
import { html } from "../html.js";
import * as state from "../state.js";

/** The longest message that the server takes, in characters, and from where on the page counts them. */
const CONTENT_MOST = 32_000;
const COUNT_FROM = 31_000;

/** Where a person writes: Enter sends, Shift+Enter makes a new line, Esc stops what runs. */
export function Composer() {
  const field = useRef(null);
  const [text, setText] = useState("");
  const projectId = state.project.value?.id;
  const runningId = state.runningId.value;
  const { text: draft, turn } = state.draft.value;
  const length = [...text].length;
  const canSend = projectId && text.trim() !== "" && length <= CONTENT_MOST;

  useEffect(() => {
    const popsUpKeyboard = !matchMedia("(pointer: fine)").matches;
    if (projectId && !popsUpKeyboard && !document.querySelector("dialog[open]")) field.current.focus();
  }, [projectId, state.composerFocus.value]);
  useEffect(() => {
    if (turn === 0) return;
    setText(draft);
    field.current.focus();
  }, [turn]);
  useLayoutEffect(() => {
    field.current.style.height = "auto";
    field.current.style.height = `${field.current.scrollHeight}px`;
  }, [text]);

  const submit = (event) => {
    event?.preventDefault();
    if (!canSend) return;
    send(text.trim());
    setText("");
    field.current.focus();
  };
  const stop = () => {
    cancel(runningId);
    focusComposer();
  };
  const onKeyDown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  };

  return html`
    <form class="composer" onSubmit=${submit}>
      <div class="composer-box">
        <textarea
          ref=${field}
          rows="1"
          dir="auto"
          aria-label="Message"
          placeholder="Ask, or say what to change"
          value=${text}
          onInput=${(event) => setText(event.currentTarget.value)}
          onKeyDown=${onKeyDown}
        ></textarea>
        <div class="composer-buttons">
          ${runningId !== null &&
          html`<button type="button" class="stop" onClick=${stop}><span aria-hidden="true">■</span> Stop</button>`}
          ${(runningId === null || text !== "") &&
          html`<button type="submit" class="primary" disabled=${!canSend}>Send</button>`}
        </div>
      </div>
      <p class="composer-foot quiet">
        <${Models} />
        ${length > COUNT_FROM
          ? html`<span data-too-long=${length > CONTENT_MOST}>${figure(length)} of ${figure(CONTENT_MOST)} characters</span>`
          : html`<span class="keys">Shift+Enter: new line · Esc: stop</span>`}
      </p>
    </form>
  `;
}

function figure(number) {
  return number.toLocaleString("en");
}

function Models() {
  const info = state.info.value;
  if (!info) return null;
  if (info.scriptedModel) {
    return html`<span class="scripted">
      Answers come from the built-in scripted model. Set <code>OPENAI_API_KEY</code> for a real one.
    </span>`;
  }
  if (!(info.models?.length > 1)) return html`<span>${info.model}</span>`;
  return html`
    <label>
      <span class="visually-hidden">Model</span>
      <select value=${state.model.value ?? info.model} onChange=${(event) => chooseModel(event.currentTarget.value)}>
        ${info.models.map((name) => html`<option value=${name}>${name}</option>`)}
      </select>
    </label>
  `;
}
