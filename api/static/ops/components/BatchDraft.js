import { html } from "../../app/html.js";
import { dropDraft, explain, startBatch } from "../actions/finding.js";
import * as state from "../state.js";
import { count, counted, spaced } from "../words.js";

/** Why messages that come near are left out of a batch. */
const REASONS = {
  other_code: "have another code",
  in_batch: "are in a batch that goes on",
  poison: "failed in several batches",
  held: "are being answered",
  cancelling: "are being cancelled",
  recent: "have not waited long enough to be stuck",
  in_line: "wait behind another message",
  running: "are being answered meanwhile",
  succeeded: "have succeeded since a batch",
};

/** The dry run of a batch, and its start. */
export function BatchDraft() {
  const draft = state.draft.value;
  if (draft === null) return null;
  const { wanted, explanation, error, isBusy } = draft;
  const submit = (event) => {
    event.preventDefault();
    startBatch(new FormData(event.currentTarget).get("rate").trim());
  };
  return html`
    <section class="panel draft" aria-labelledby="draft-title">
      <header class="panel-head"><h2 id="draft-title">A batch: dry run</h2></header>
      ${error !== null && html`<p class="form-error" role="alert">${error}</p>`}
      ${explanation === null && isBusy && html`<p class="quiet">Counting…</p>`}
      ${explanation !== null && html`<${Explained} wanted=${wanted} explanation=${explanation} />`}
      <form class="draft-form" onSubmit=${submit}>
        ${explanation !== null &&
        explanation.matched > 0 &&
        html`
          <label class="field">
            At most <input name="rate" defaultValue="5/s" placeholder="no limit" title="5/s, 90/m" size="8" />
          </label>
          <button type="submit" class="primary" disabled=${isBusy}>Start: answer ${counted(explanation.matched, "message")} again</button>
        `}
        <button type="button" onClick=${dropDraft}>Leave it</button>
      </form>
    </section>
  `;
}

function Explained({ wanted, explanation: { matched, byCode, byModel, excluded } }) {
  const left = Object.entries(excluded);
  const time = ["pending", "building"].includes(wanted.status) ? "were enqueued" : "ended";
  return html`
    <p><strong data-matched=${matched}>${counted(matched, "message")}</strong> would be answered again, below those of people in priority.</p>
    ${wanted.since && html`<p class="quiet">Those that ${time} since ${new Date(wanted.since).toLocaleString("en-GB")}.</p>`}
    <dl class="draft-counts">
      <${Counts} name="By code" counts=${byCode} shown=${spaced} />
      <${Counts} name="By model" counts=${byModel} shown=${(name) => name || "none"} />
      ${left.length > 0 &&
      html`<div>
        <dt>Left out</dt>
        ${left.map(([reason, number]) => html`<dd data-excluded=${reason}>${count(number)} ${REASONS[reason] ?? spaced(reason)}</dd>`)}
        ${excluded.poison > 0 &&
        html`<dd><button type="button" class="link" onClick=${() => explain({ includePoison: true })}>Take those that failed in several batches too</button></dd>`}
      </div>`}
    </dl>
  `;
}

function Counts({ name, counts, shown }) {
  const items = Object.entries(counts);
  if (items.length === 0) return null;
  return html`<div>
    <dt>${name}</dt>
    ${items.map(([key, number]) => html`<dd>${count(number)} ${shown(key)}</dd>`)}
  </div>`;
}
