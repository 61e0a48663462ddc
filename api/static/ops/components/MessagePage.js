import { html } from "../../app/html.js";
import { serverNowMs } from "../actions/live.js";
import { cancelMessage, retryMessage } from "../actions/message.js";
import { messagesAddress } from "../route.js";
import * as state from "../state.js";
import { bytes, clock, count, duration, moment, shortId, spaced } from "../words.js";
import { CopyButton } from "./CopyButton.js";
import { Events } from "./Events.js";
import { Status } from "./MessageTable.js";
import { Panel } from "./Panel.js";
import { Waterfall } from "./Waterfall.js";

const FINAL = ["success", "error", "cancelled"];

/** One message: where its time went, and all that is known of it but its text. */
export function MessagePage() {
  const { id, details, error, act } = state.message.value;
  if (details === null) {
    return html`<div class="ops-empty">
      ${error === null ? html`<p class="quiet">Loading the message…</p>` : html`<p role="alert">${error}</p>`}
    </div>`;
  }
  const { message, rounds, toolCalls, jobs, log } = details;
  return html`
    <header class="page-head">
      <h2>Message <span class="id">${shortId(id)}</span></h2>
      <${Status} status=${message.status} code=${message.code} />
      <div class="page-actions"><${Acts} message=${message} act=${act} /></div>
    </header>
    ${error && html`<p class="form-error" role="alert">${error} What is shown is older.</p>`}
    ${act.problem && html`<p class="form-error" role="alert">${act.problem}</p>`}
    <${Waterfall} details=${details} />
    <div class="ops-columns">
      <div><${Facts} message=${message} /></div>
      <div>
        <${Attempts} log=${log} message=${message} />
        <${ToolCalls} calls=${toolCalls} />
        <${Rounds} rounds=${rounds} />
        ${jobs.length > 0 && html`<${Jobs} jobs=${jobs} />`}
      </div>
    </div>
    <${Events} log=${log} message=${message} />
  `;
}

function Acts({ message, act }) {
  if (FINAL.includes(message.status)) {
    return html`<button type="button" class="primary" disabled=${act.isBusy} onClick=${() => retryMessage(message.id)}>Retry</button>`;
  }
  const isAsked = message.cancelRequestedAt !== null;
  return html`<button type="button" disabled=${act.isBusy || isAsked} onClick=${() => cancelMessage(message.id)}>
    ${isAsked ? "Cancel is asked for" : "Cancel"}
  </button>`;
}

function Facts({ message }) {
  const { timing, usage } = message;
  const nowMs = serverNowMs();
  const at = (value) => moment(value, nowMs);
  const rows = [
    ["Id", html`<code class="whole-id">${message.id}</code> <${CopyButton} text=${message.id} what="The id" />`],
    ["Project", html`<a class="whole-id" href=${messagesAddress({ project: message.projectId })}><code>${message.projectId}</code></a>`],
    ["Author", message.author && html`<bdi>${message.author}</bdi>`],
    ["Model", message.model && html`<bdi>${message.model}</bdi>`],
    ["Status", html`<${Status} status=${message.status} /> ${message.code && html`<code>${message.code}</code>`}`],
    ["Kind", spaced(message.kind)],
    ["Run, attempt", `${message.run}, ${message.attempt}`],
    ["Tries failed", count(message.tries)],
    ["Held by", message.heldBy && html`<bdi class="process">${message.heldBy}</bdi> until ${clock(message.leaseUntil)}`],
    ["Cancel asked", message.cancelRequestedAt && at(message.cancelRequestedAt)],
    ["Text", bytes(message.contentBytes)],
    ["Tokens", usage && `${count(usage.promptTokens)} read, ${count(usage.completionTokens)} written, ${count(usage.totalTokens)} in all`],
    ["Calls of the model", timing?.rounds != null && count(timing.rounds)],
    ["Submitted", at(message.createdAt)],
    ["Enqueued", message.enqueuedAt && message.enqueuedAt !== message.createdAt && at(message.enqueuedAt)],
    ["Changed", at(message.updatedAt)],
    ["Last event", message.lastEventId],
  ].filter(([, value]) => value);
  return html`
    <${Panel} title="The row">
      <dl class="facts">${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <//>
  `;
}

function Attempts({ log, message }) {
  const note = "as the log has them";
  if (log === null) return html`<${Panel} title="Attempts" isPlain><p class="quiet">Redis does not answer: the log is not known.</p><//>`;
  if (log.attempts.length === 0) {
    const words = message.attempt === 0 ? "Nobody has taken it yet." : "The log has expired, or was lost; the row stands.";
    return html`<${Panel} title="Attempts" isPlain><p class="quiet">${words}</p><//>`;
  }
  return html`
    <${Panel} title="Attempts" note=${note} isPlain>
      <table>
        <thead>
          <tr>
            <th scope="col">Attempt</th><th scope="col">Began</th><th scope="col">Took</th><th scope="col">Events</th><th scope="col">Ended</th>
          </tr>
        </thead>
        <tbody>
          ${log.attempts.map(
            ({ attempt, began, ended, events, ending }) => html`
              <tr data-attempt=${attempt}>
                <th scope="row">${attempt}</th>
                <td>${clock(began)}</td>
                <td>${duration(ended - began)}</td>
                <td>${count(events)}</td>
                <td>${ending ? html`<${Status} status=${ending} />` : attempt < message.attempt ? "stopped" : "–"}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    <//>
  `;
}

function ToolCalls({ calls }) {
  return html`
    <${Panel} title="Tool calls" isPlain>
      ${calls.length === 0
        ? html`<p class="quiet">None in this run.</p>`
        : html`<table>
            <thead>
              <tr><th scope="col">Tool</th><th scope="col">State</th><th scope="col">Round</th><th scope="col">Asked</th><th scope="col">Made</th></tr>
            </thead>
            <tbody>
              ${calls.map(
                ({ toolCallId, name, state: now, round, argumentsBytes, createdAt, version, jobId }) => html`
                  <tr key=${toolCallId} data-tool-call=${toolCallId}>
                    <th scope="row"><code>${name}</code></th>
                    <td>
                      <span class="status" data-status=${now === "failed" ? "error" : "success"}>${now}</span>
                      ${version != null && html` <span class="quiet">version ${version}</span>`}
                      ${jobId != null && html` <span class="quiet">job ${shortId(jobId)}</span>`}
                    </td>
                    <td>${round}</td>
                    <td>${bytes(argumentsBytes)}</td>
                    <td>${clock(createdAt)}</td>
                  </tr>
                `,
              )}
            </tbody>
          </table>`}
    <//>
  `;
}

function Rounds({ rounds }) {
  return html`
    <${Panel} title="Rounds" note="calls of the model that were stored" isPlain>
      ${rounds.length === 0
        ? html`<p class="quiet">None is stored: only what leads to a tool call is.</p>`
        : html`<table>
            <thead>
              <tr><th scope="col">Round</th><th scope="col">Attempt</th><th scope="col">Text</th><th scope="col">Calls</th><th scope="col">Tokens</th></tr>
            </thead>
            <tbody>
              ${rounds.map(
                ({ round, attempt, textBytes, calls, usage }) => html`
                  <tr key=${round}>
                    <th scope="row">${round}</th>
                    <td>${attempt}</td>
                    <td>${bytes(textBytes)}</td>
                    <td>${calls.length ? calls.map((name) => html`<code>${name}</code> `) : "–"}</td>
                    <td>${count(usage?.totalTokens)}</td>
                  </tr>
                `,
              )}
            </tbody>
          </table>`}
    <//>
  `;
}

function Jobs({ jobs }) {
  return html`
    <${Panel} title="Component jobs" isPlain>
      <table>
        <thead>
          <tr><th scope="col">Job</th><th scope="col">Status</th><th scope="col">Phase</th><th scope="col">Tries</th><th scope="col">Changed</th></tr>
        </thead>
        <tbody>
          ${jobs.map(
            ({ id, status, phase, tries, updatedAt }) => html`
              <tr key=${id}>
                <th scope="row"><span class="id" title=${id}>${shortId(id)}</span></th>
                <td><${Status} status=${status} /></td>
                <td>${phase ?? "–"}</td>
                <td>${tries}</td>
                <td>${clock(updatedAt)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    <//>
  `;
}
