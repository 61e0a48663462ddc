import { cancel, focusComposer } from "../actions/compose.js";
import { html } from "../html.js";
import { ordinal } from "../queue.js";
import * as state from "../state.js";

/** What an unfinished message is doing, and the button that ends it where the composer's Stop would end another one. */
export function Progress({ message }) {
  const { words, tool } = progressOf(message);
  const isWaiting = message.activity === null && message.status === "pending";
  const mayStop = state.canWrite.value && !message.stopping && (isWaiting || state.runningId.value !== message.id);
  const stop = () => {
    cancel(message.id);
    focusComposer();
  };
  return html`
    <div class="progress" data-activity=${message.activity ?? "queued"}>
      <span class="dots" aria-hidden="true"><i></i><i></i><i></i></span>
      <span class="progress-words">${words}${tool && html` <code>${tool}</code>`}</span>
      ${mayStop && html`<button type="button" class="link" onClick=${stop}>${isWaiting ? "Cancel" : "Stop"}</button>`}
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
      return { words: waitingWords(state.placeInLine(message.id)) };
    default:
      return { words: "Working…" };
  }
}

function waitingWords(place) {
  return place > 1 ? `Waiting, ${ordinal(place)} in line` : "Starting…";
}
