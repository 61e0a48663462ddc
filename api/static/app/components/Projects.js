import { useEffect, useRef } from "../../vendor/preact-hooks.js";
import { askFor, loadMoreProjects, openProject } from "../actions/projects.js";
import { signOut } from "../actions/sign_in.js";
import { html } from "../html.js";
import * as state from "../state.js";

/** How near to the list's end loads more. */
const BOTTOM_PX = 300;

/** The list of projects, at the side. */
export function Projects() {
  const items = state.projects.value ?? [];
  const current = state.project.value?.id;
  const more = state.moreProjects.value;
  const list = useRef(null);
  const isDrawerOpen = state.drawerOpen.value;
  useEffect(() => {
    if (isDrawerOpen) (list.current.querySelector("[aria-current]") ?? list.current.querySelector("button")).focus();
  }, [isDrawerOpen]);
  return html`
    <nav class="projects" aria-label="Projects" id="projects" ref=${list}>
      <header class="pane-head">
        <h2>Projects</h2>
        <button type="button" class="link" onClick=${() => askFor("create")}>New</button>
      </header>
      ${items.length === 0 && html`<p class="pane-empty quiet">None yet.</p>`}
      <ul onScroll=${onScroll}>
        ${items.map(
          (item) => html`
            <li key=${item.id}>
              <button
                type="button"
                class="project"
                dir="auto"
                aria-current=${item.id === current ? "true" : undefined}
                onClick=${() => openProject(item.id)}
              >
                ${item.name}
                ${item.role !== "owner" && html`<span class="role">${item.role}</span>`}
              </button>
            </li>
          `,
        )}
        ${more.cursor !== null &&
        html`<li class="more-projects">
          ${more.error && html`<p class="form-error" role="alert">${more.error}</p>`}
          <button type="button" class="link" onClick=${loadMoreProjects} disabled=${more.isLoading}>
            ${more.isLoading ? "Loading…" : "More projects"}
          </button>
        </li>`}
      </ul>
      <footer>
        <button type="button" class="link" onClick=${signOut}>Sign out</button>
        ${state.info.value?.version && html`<span class="quiet">${state.info.value.version}</span>`}
      </footer>
    </nav>
  `;
}

function onScroll({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) {
  if (scrollHeight - scrollTop - clientHeight < BOTTOM_PX) loadMoreProjects();
}

/** What stands in the place of the chat while there is no project. */
export function NoProject() {
  const isFirst = state.projects.value?.length === 0;
  return html`
    <section class="no-project">
      <h2>${isFirst ? "Start with a project" : "No project is open"}</h2>
      <p class="quiet">
        A project has a document and a chat about it. The assistant answers, and edits the document when you ask it to.
      </p>
      <button type="button" class="primary" onClick=${() => askFor("create")}>New project</button>
    </section>
  `;
}
