import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { applyMine, goOnEditing, keepTheirs } from "../actions/editing.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { Changes } from "./Changes.js";

/** What a person wanted to store beside what others stored meanwhile, and the choice between them. */
export function Conflict() {
  const heading = useRef(null);
  useEffect(() => heading.current.focus(), []);
  const { version, theirs, mine, rebased, touches } = state.conflict.value;
  return html`
    <section class="conflict" aria-labelledby="conflict-title">
      <h3 id="conflict-title" tabindex="-1" ref=${heading}>Somebody else was faster</h3>
      <p>${wordsFor(rebased, touches, version)}</p>
      <div class="sides">
        <div>
          <h4>Theirs</h4>
          <${Changes} changes=${theirs} />
        </div>
        <div>
          <h4>Mine</h4>
          <${Changes} changes=${mine} />
        </div>
      </div>
      <div class="conflict-buttons">
        <button type="button" class="small primary" disabled=${rebased === null} onClick=${applyMine}>
          Apply mine to version ${version}
        </button>
        <button type="button" class="small" onClick=${keepTheirs}>Keep theirs</button>
        ${state.editing.value && html`<button type="button" class="small" onClick=${goOnEditing}>Go on editing</button>`}
      </div>
    </section>
  `;
}

function wordsFor(rebased, touches, version) {
  if (rebased === null) return `What you changed is not there any more in version ${version}: your change can't be applied.`;
  if (touches) return `You both changed the same place. Yours would replace what is in version ${version}.`;
  return "Your change is about another place than theirs: both can be kept.";
}
