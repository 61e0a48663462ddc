import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { tryOut } from "../actions/compose.js";
import { askFor, loadMoreProjects, openProject } from "../actions/projects.js";
import { signOut } from "../actions/sign_in.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { FOR_A_VIDEO } from "../suggestions.js";
import { SuggestionList } from "./SuggestionList.js";

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
                aria-current=${item.id === current ? "true" : undefined}
                onClick=${() => openProject(item.id)}
              >
                <bdi>${item.name}</bdi>
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
        ${state.me.value?.scopes.includes("ops") && html`<a href="/ops">Operations</a>`}
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
  if (state.projects.value?.length === 0) return html`<${First} />`;
  return html`
    <section class="no-project">
      <h2>No project is open</h2>
      <p class="quiet">Choose one from the list, or make another.</p>
      <button type="button" class="primary" onClick=${() => askFor("create")}>New project</button>
    </section>
  `;
}

/** For somebody who has no project yet: what to try, which makes one, or an own beginning. */
function First() {
  const [isBusy, setBusy] = useState(false);
  const onChoose = async (text) => {
    setBusy(true);
    await tryOut(text);
    setBusy(false);
  };
  return html`
    <section class="no-project is-first">
      <h2>What shall we make?</h2>
      <p class="quiet">
        A project has a document and a chat about it. The assistant answers, and edits the document when you ask it to. Try one
        of these on a short video:
      </p>
      <div class="suggestions"><${SuggestionList} items=${FOR_A_VIDEO} onChoose=${onChoose} isBusy=${isBusy} /></div>
      <p>
        <button type="button" class="link" onClick=${() => askFor("create")}>New project</button>
        <span class="quiet"> – with a name and a document of your own</span>
      </p>
    </section>
  `;
}
