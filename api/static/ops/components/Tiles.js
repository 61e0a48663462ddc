import { html } from "../../app/html.js";
import * as state from "../state.js";
import { count, duration, perSecond, share } from "../words.js";

/** A sweeper comes round each second; one that is silent for longer than this is late. */
export const LATE_MS = 15_000;
/** Somebody whose turn has come should not wait for longer. */
const LONG_MS = 10_000;

/** The figures that say at a glance whether all is well. */
export function Tiles() {
  const summary = state.summary.value;
  const ended = summary.ended;
  const sum = (name, status) => ended.filter((one) => !status || one.status === status).reduce((all, one) => all + one[name], 0);
  const [pending, building] = ["pending", "building"].map((status) => summary.unfinished.find((one) => one.status === status));
  const held = (pending?.held ?? 0) + (building?.held ?? 0);
  const waiting = (pending?.waiting ?? 0) + (building?.waiting ?? 0);
  const oldestMs = Math.max(-1, ...summary.unfinished.map((one) => one.oldestWaitingMs ?? -1));
  const errors = sum("lastFiveMinutes", "error");
  const all = sum("lastFiveMinutes");
  const sweepersMs = summary.sweepers.map((one) => one.silentMs);
  const swept = sweepersMs.filter((ms) => ms < LATE_MS).length;
  const late = sweepersMs.length - swept;
  return html`
    <section class="tiles" aria-label="At a glance">
      <${Tile} name="Ended" value=${`${perSecond(sum("lastMinute") / 60)}/s`} note=${`${count(sum("lastMinute"))} in a minute`} />
      <${Tile}
        name="Failed, 5 min"
        value=${count(errors)}
        note=${`${share(errors, all)} of ${count(all)}`}
        isBad=${errors > 0 && errors * 20 >= all}
      />
      <${Tile} name="First token, p95" value=${duration(summary.firstToken.p95Ms)} note=${`p50 ${duration(summary.firstToken.p50Ms)}`} />
      <${Tile} name="Completion, p95" value=${duration(summary.completion.p95Ms)} note=${`p50 ${duration(summary.completion.p50Ms)}`} />
      <${Tile}
        name="Waiting"
        value=${count(waiting)}
        note=${oldestMs >= 0 ? `the oldest for ${duration(oldestMs)}` : "nobody's turn"}
        isBad=${oldestMs > LONG_MS}
      />
      <${Tile}
        name="Leases held"
        value=${count(held)}
        note=${summary.lapsedLeases ? `${count(summary.lapsedLeases)} lapsed` : "none lapsed"}
        isBad=${summary.lapsedLeases > 0}
      />
      <${Tile}
        name="Sweepers"
        value=${count(swept)}
        note=${sweepersMs.length ? `silent for ${duration(Math.min(...sweepersMs))}${late ? `, ${count(late)} gone` : ""}` : "none was ever seen"}
        isBad=${swept === 0}
      />
      <${Tile} name="Tokens, hour" value=${count(summary.tokensLastHour)} note=${`${count(sum("lastHour"))} messages`} />
    </section>
  `;
}

function Tile({ name, value, note, isBad = false }) {
  return html`<dl class="tile" data-tile=${name} data-bad=${isBad ? "true" : undefined}>
    <dt>${name}</dt>
    <dd class="tile-value">${value}</dd>
    <dd class="tile-note">${isBad && html`<span class="visually-hidden">Look at this: </span>`}${note}</dd>
  </dl>`;
}
