import { useMemo, useState } from "../../vendor/preact-hooks.js";
import { isVideo, placedComponents } from "../actions/jobs.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { Player } from "./Player.js";

/** The whole video of the project, as it would look. */
export function PreviewPane() {
  const document = state.documentValue.value;
  const projectId = state.project.value?.id;
  return html`
    <section class="preview" aria-label="Preview">
      <h2 class="visually-hidden">Preview</h2>
      ${projectId && state.documentVersion.value !== null && (isVideo(document) ? html`<${VideoPlayer} projectId=${projectId} document=${document} />` : html`<${NoVideo} />`)}
    </section>
  `;
}

function VideoPlayer({ projectId, document }) {
  const [loaded, setLoaded] = useState(null);
  const content = useMemo(() => ({ document }), [document]);
  const placed = [...placedComponents(document)];
  const jobs = state.jobs.value;
  // a frame has the components that were placed and built when it was loaded: another one makes another frame
  const built = placed.filter((id) => loaded?.has(id) || jobs.get(id)?.status === "success" || !jobs.has(id));
  const onKnown = ({ phase, components }) => {
    if (phase === "ready" && components !== loaded?.list) setLoaded(Object.assign(new Set(components), { list: components }));
  };
  return html`<${Player}
    key=${projectId}
    path=${`/v1/projects/${projectId}/preview`}
    content=${content}
    label="Preview of the video"
    edition=${built.sort().join(" ")}
    onKnown=${onKnown}
  />`;
}

function NoVideo() {
  return html`
    <div class="preview-empty">
      <p>There is no video here to play.</p>
      <p class="quiet">
        A preview plays documents that have <code>scenes</code>, as a project made from the video template does. A component can be
        previewed in the chat, where it was built.
      </p>
    </div>
  `;
}
