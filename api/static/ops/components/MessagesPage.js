import { adviceFor } from "../../app/advice.js";
import { html } from "../../app/html.js";
import { explain, findMore, OF_BATCHES, search, tick, tickAll } from "../actions/finding.js";
import { serverNowMs } from "../actions/live.js";
import { FILTERS, messagesAddress } from "../route.js";
import * as state from "../state.js";
import { count, counted, duration, moment, shortId, spaced } from "../words.js";
import { BatchDraft } from "./BatchDraft.js";
import { CODES, STATUSES } from "./choices.js";
import { MessageLink, Status } from "./MessageTable.js";

const SINCE = [
  ["", "ever"],
  ["15m", "15 minutes"],
  ["1h", "an hour"],
  ["6h", "6 hours"],
  ["1d", "a day"],
  ["7d", "a week"],
];

/** Messages of all projects: found, ticked, answered again. */
export function MessagesPage() {
  const { filters } = state.route.value;
  return html`
    <h2 class="visually-hidden">Messages</h2>
    <${Filters} key=${messagesAddress(filters)} filters=${filters} />
    <${Choosing} filters=${filters} />
    <${BatchDraft} />
    <${Found} filters=${filters} />
  `;
}

function Filters({ filters }) {
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    search(Object.fromEntries(FILTERS.map((name) => [name, (form.get(name) ?? "").trim()])));
  };
  const models = state.info.value?.models ?? [];
  return html`
    <form class="filters" onSubmit=${submit} aria-label="Filters">
      <${Choice} name="status" label="Status" value=${filters.status} choices=${[["", "any"], ...STATUSES.map((one) => [one, one])]} />
      <${Choice} name="code" label="Error code" value=${filters.code} choices=${[["", "any"], ...CODES.map((one) => [one, spaced(one)])]} />
      <${Choice} name="since" label="Submitted within" value=${filters.since} choices=${SINCE} />
      <label class="field">
        Model <input name="model" list="models" maxlength="200" defaultValue=${filters.model} />
        <datalist id="models">${models.map((name) => html`<option value=${name}></option>`)}</datalist>
      </label>
      <label class="field">Project's id <input name="project" spellcheck="false" defaultValue=${filters.project} /></label>
      <label class="field">
        Slower than <input name="slowerThan" placeholder="2s" pattern="[1-9][0-9]{0,8}(ms|s|m|h)?" title="500ms, 2s, 5m" defaultValue=${filters.slowerThan} />
      </label>
      <button type="submit" class="primary">Find</button>
    </form>
  `;
}

function Choice({ name, label, value, choices }) {
  const known = choices.some(([one]) => one === value) ? choices : [...choices, [value, value]];
  return html`
    <label class="field">
      ${label}
      <select name=${name}>
        ${known.map(([one, words]) => html`<option value=${one} selected=${one === value}>${words}</option>`)}
      </select>
    </label>
  `;
}

/** What can be done with what was found. */
function Choosing({ filters }) {
  const { items } = state.found.value;
  if (!items?.length) return null;
  const ticked = state.ticked.value.size;
  const isOfBatches = OF_BATCHES.includes(filters.status);
  const isSlow = filters.slowerThan !== "";
  const mayAll = isOfBatches && !isSlow;
  const label = ticked ? `Answer the ${count(ticked)} ticked again…` : "Answer all that match again…";
  return html`
    <div class="choosing">
      <button type="button" onClick=${() => explain()} disabled=${ticked ? !isOfBatches : !mayAll}>${label}</button>
      <span class="quiet">
        ${!isOfBatches
          ? "Choose one status, other than success, to answer again as a batch."
          : isSlow && !ticked
            ? "A batch does not ask how slow a message was: tick those that are meant."
            : filters.code
              ? adviceFor(filters.code).words
              : "A dry run says first what would be done."}
      </span>
    </div>
  `;
}

function Found({ filters }) {
  const { items, cursor, isLoading, error } = state.found.value;
  const isTickable = OF_BATCHES.includes(filters.status);
  if (error !== null) return html`<p class="form-error" role="alert">${error}</p>`;
  if (items === null) return html`<p class="quiet">Looking…</p>`;
  const more = cursor !== null && html`
    <button type="button" onClick=${findMore} disabled=${isLoading}>${isLoading ? "Looking…" : "Older ones"}</button>
  `;
  if (items.length === 0) return html`<p class="quiet">No message passes these filters${cursor !== null && " so far"}. ${more}</p>`;
  const isAll = state.ticked.value.size === items.length;
  const nowMs = serverNowMs();
  return html`
    <div class="table-frame found">
      <table>
        <caption class="visually-hidden">${counted(items.length, "message")}, newest first</caption>
        <thead>
          <tr>
            ${isTickable &&
            html`<th scope="col" class="tick">
              <input type="checkbox" aria-label="Tick all that are listed" checked=${isAll} onChange=${(event) => tickAll(event.currentTarget.checked)} />
            </th>`}
            <th scope="col">Message</th><th scope="col">Status</th><th scope="col">Submitted</th><th scope="col">Took</th>
            <th scope="col" class="wide-only">First token</th><th scope="col" class="wide-only">Attempt</th>
            <th scope="col" class="wide-only">Model</th><th scope="col" class="wide-only">Project</th><th scope="col" class="wide-only">Author</th>
          </tr>
        </thead>
        <tbody>
          ${items.map(
            (item) => html`
              <tr key=${item.id} data-message=${item.id}>
                ${isTickable && html`<td class="tick"><${Tick} id=${item.id} /></td>`}
                <th scope="row"><${MessageLink} id=${item.id} /></th>
                <td><${Status} status=${item.status} code=${item.code} /></td>
                <td>${moment(item.createdAt, nowMs)}</td>
                <td>${duration(item.timing?.totalMs ?? item.ageMs)}</td>
                <td class="wide-only">${duration(item.timing?.firstTokenMs)}</td>
                <td class="wide-only">${item.attempt}</td>
                <td class="wide-only"><bdi>${item.model}</bdi></td>
                <td class="wide-only">
                  <a class="id" href=${messagesAddress({ ...filters, project: item.projectId })} title=${item.projectId}>${shortId(item.projectId)}</a>
                </td>
                <td class="wide-only"><bdi>${item.author}</bdi></td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
    ${more}
  `;
}

function Tick({ id }) {
  const onChange = (event) => tick(id, event.currentTarget.checked);
  return html`<input type="checkbox" aria-label=${`Tick ${shortId(id)}`} checked=${state.ticked.value.has(id)} onChange=${onChange} />`;
}
