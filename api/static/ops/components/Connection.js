import { html } from "../../app/html.js";
import { dismissGap } from "../actions/looking.js";
import * as state from "../state.js";
import { clock } from "../words.js";

const WORDS = { connecting: "Connecting…", ok: "Live", cut: "Cut off" };

/** Whether what is shown is live, in a word. */
export function Connection() {
  const { state: now } = state.connection.value;
  return html`<p class="connection" data-connection=${now}>${WORDS[now]}</p>`;
}

/** What an operator must know before believing a figure. */
export function Notices() {
  const { state: now, sinceMs } = state.connection.value;
  const error = state.summaryError.value;
  const at = state.summary.value?.at;
  return html`
    <div class="ops-notices">
      ${now === "cut" &&
      html`<p class="notice" data-notice="cut">
        The connection was lost at ${clock(sinceMs)}: trying again. What happens meanwhile is not shown, and may be missed.
        ${error !== null && at && ` The figures are as of ${clock(at)}.`}
      </p>`}
      ${error !== null &&
      now !== "cut" &&
      html`<p class="notice" data-notice="figures">
        The figures could not be loaded: ${error} ${at ? `They are as of ${clock(at)}.` : ""}
      </p>`}
      ${state.gap.value !== null &&
      now !== "cut" &&
      html`<p class="notice is-mild" data-notice="gap">
        <span>${state.gap.value}</span>
        <button type="button" class="link" onClick=${dismissGap}>Dismiss</button>
      </p>`}
    </div>
  `;
}
