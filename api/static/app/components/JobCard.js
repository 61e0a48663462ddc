import { useEffect, useMemo, useRef, useState } from "../../vendor/preact-hooks.js";
import { focusComposer, retry } from "../actions/compose.js";
import { isVideo, loadJob, placeComponent, placedComponents, sourceOf } from "../actions/jobs.js";
import { highlight } from "../highlight.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { Player } from "./Player.js";

const PHASES = [
  { name: "writing", label: "Writing" },
  { name: "checking", label: "Checking" },
  { name: "bundling", label: "Bundling" },
];
const STATES = { pending: "waiting for a builder", building: "being built", success: "built", error: "failed", cancelled: "stopped" };
const ORDINALS = ["", "First", "Second", "Third", "Fourth"];

/** The component that a message asked for: how far it is, and what can be done with it. */
export function JobCard({ message }) {
  const { status } = message;
  // a reader who came late knows it from the call alone
  const jobId = message.jobId ?? message.toolCalls.findLast((call) => call.jobId)?.jobId;
  useEffect(() => {
    if (jobId) loadJob(jobId);
  }, [jobId, status]);
  const job = jobId ? state.jobs.value.get(jobId) : null;
  if (!job) return null;
  return html`
    <section class="job-card" data-job=${job.id} data-status=${job.status} aria-label=${`Component ${job.name}`}>
      <header>
        <strong dir="auto">${job.name}</strong>
        <span class="job-state">${STATES[job.status] ?? job.status}</span>
      </header>
      <p class="quiet job-effect" dir="auto">${job.effectDescription}</p>
      ${(job.status === "pending" || job.status === "building") && html`<${Phases} job=${job} />`}
      ${job.status === "error" && html`<${Failure} job=${job} message=${message} />`}
      ${job.status === "success" && html`<${Built} job=${job} />`}
    </section>
  `;
}

function Phases({ job }) {
  const at = PHASES.findIndex(({ name }) => name === job.phase);
  return html`
    <ol class="job-phases">
      ${PHASES.map(
        ({ name, label }, index) => html`<li
          key=${name}
          data-state=${index < at ? "done" : index === at ? "now" : "next"}
          aria-current=${index === at ? "step" : undefined}
        >
          ${label}
        </li>`,
      )}
    </ol>
    ${job.tries > 1 &&
    html`<p class="job-try">
      ${ORDINALS[job.tries] ?? `${job.tries}th`} try: the ${job.tries === 2 ? "first" : "last"} had errors, which the model was told of.
    </p>`}
  `;
}

function Failure({ job, message }) {
  const again = () => {
    retry(message.id);
    focusComposer();
  };
  return html`
    <div class="failure">
      <p><strong>It could not be built${job.tries > 1 ? `, in ${job.tries} tries` : ""}.</strong></p>
      ${job.error && html`<pre tabindex="0" dir="auto">${job.error}</pre>`}
      ${message.status === "error" &&
      html`<p class="failure-actions"><button type="button" class="small" onClick=${again}>Build it again</button></p>`}
    </div>
  `;
}

function Built({ job }) {
  const [shown, setShown] = useState(null);
  const content = useMemo(() => ({ component: job.id }), [job.id]);
  const show = (what) => setShown(shown === what ? null : what);
  return html`
    <div class="job-buttons">
      <button type="button" class="small" aria-expanded=${shown === "preview"} onClick=${() => show("preview")}>Preview</button>
      <button type="button" class="small" aria-expanded=${shown === "source"} onClick=${() => show("source")}>Source</button>
      <${Placing} job=${job} />
    </div>
    ${shown === "preview" &&
    html`<${Player}
      path=${`/v1/jobs/${job.id}/preview`}
      content=${content}
      edition=${job.updatedAt}
      label=${`Preview of ${job.name}`}
    />`}
    ${shown === "source" && html`<${Source} job=${job} />`}
  `;
}

function Placing({ job }) {
  const [isBusy, setBusy] = useState(false);
  const document = state.documentValue.value;
  if (!isVideo(document)) return null;
  if (placedComponents(document).has(job.id)) return html`<span class="quiet job-placed">In the video</span>`;
  if (state.project.value?.role === "viewer") return null;
  const place = async () => {
    setBusy(true);
    await placeComponent(job);
    setBusy(false);
  };
  return html`<button type="button" class="small" onClick=${place} disabled=${isBusy}>Add to the video</button>`;
}

function Source({ job }) {
  const [source, setSource] = useState({ text: null, error: null });
  const [copied, setCopied] = useState("");
  const code = useRef(null);
  useEffect(() => {
    let isCurrent = true;
    sourceOf(job.id).then(
      (text) => isCurrent && setSource({ text, error: null }),
      (error) => isCurrent && setSource({ text: null, error: error.message }),
    );
    return () => {
      isCurrent = false;
    };
  }, [job.id, job.updatedAt]);
  useEffect(() => {
    if (source.text === null) return;
    code.current.textContent = source.text;
    highlight(code.current, "tsx");
  }, [source.text]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(source.text);
      setCopied("Copied.");
    } catch {
      setCopied("This browser does not let the page copy: select the text instead.");
    }
  };
  if (source.error) return html`<p class="form-error" role="alert">${source.error}</p>`;
  if (source.text === null) return html`<p class="quiet">Loading…</p>`;
  return html`
    <div class="job-source">
      <p class="job-source-head">
        <button type="button" class="link" onClick=${copy}>Copy</button>
        <span class="quiet" role="status">${copied}</span>
      </p>
      <pre tabindex="0" dir="ltr" aria-label=${`Source of ${job.name}`}><code ref=${code}></code></pre>
    </div>
  `;
}
