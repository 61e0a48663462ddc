import { useEffect } from "../../vendor/preact-hooks.js";
import { cancel } from "../actions/compose.js";
import { showSide, showTab } from "../actions/document.js";
import { askFor, dismissNotice, showDrawer } from "../actions/projects.js";
import { html } from "../html.js";
import * as state from "../state.js";
import { Chat } from "./Chat.js";
import { Dialogs } from "./Dialogs.js";
import { NoProject, Projects } from "./Projects.js";
import { PANES, SidePane } from "./SidePane.js";
import { SignIn } from "./SignIn.js";

/** The whole page. */
export function App() {
  useEffect(() => {
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
  const name = state.project.value?.name;
  useEffect(() => {
    document.title = name ? `${name} – chatrelay` : "chatrelay";
  }, [name]);
  if (state.token.value === null) return html`<${SignIn} />`;
  const hasProject = state.project.value !== null || state.opening.value;
  return html`
    <div class="page" data-tab=${state.tab.value} data-drawer=${state.drawerOpen.value ? "open" : "closed"}>
      ${hasProject && html`<button type="button" class="skip" onClick=${skip}>To the message field</button>`}
      <${Projects} />
      <div class="shade" onClick=${() => showDrawer(false)}></div>
      <main>
        <${Head} />
        ${state.notice.value &&
        html`<p class="notice" role="alert">
          <span dir="auto">${state.notice.value}</span>
          <button type="button" class="link" onClick=${dismissNotice}>Dismiss</button>
        </p>`}
        <div class="panes">
          ${hasProject ? html`<${Chat} /><${SidePane} />` : html`<${NoProject} />`}
        </div>
      </main>
      <${Dialogs} />
      <p class="visually-hidden" role="status" aria-live="polite">${state.announcement.value}</p>
    </div>
  `;
}

/** Past the list of projects, which may be long. */
function skip() {
  showTab("chat");
  requestAnimationFrame(() => document.querySelector(".composer textarea")?.focus());
}

function Head() {
  const project = state.project.value;
  const isChat = state.tab.value === "chat";
  return html`
    <header class="head">
      <button
        type="button"
        class="drawer-button"
        aria-label="Projects"
        aria-expanded=${state.drawerOpen.value}
        aria-controls="projects"
        onClick=${() => showDrawer(!state.drawerOpen.value)}
      >
        <span aria-hidden="true">☰</span>
      </button>
      <h1><bdi>${project?.name ?? "chatrelay"}</bdi></h1>
      ${project &&
      html`
        <div class="tabs" role="group" aria-label="What is shown">
          <${Tab} label="Chat" isShown=${isChat} onClick=${() => showTab("chat")} />
          ${PANES.map(
            ({ name, label }) => html`<${Tab}
              label=${label}
              isShown=${!isChat && state.side.value === name}
              hasNews=${name === "document" && state.documentUnseen.value}
              onClick=${() => showPane(name)}
            />`,
          )}
        </div>
        <div class="head-actions">
          ${project.role !== "owner" && html`<span class="role" data-role=${project.role}>${project.role}</span>`}
          <button type="button" class="link" onClick=${() => askFor("members", project)}>Members</button>
          ${state.mayEdit.value &&
          html`<button type="button" class="link" onClick=${() => askFor("settings", project)}>Settings</button>`}
        </div>
      `}
    </header>
  `;
}

function Tab({ label, isShown, hasNews, onClick }) {
  return html`<button type="button" aria-pressed=${isShown} onClick=${onClick}>
    ${label}${hasNews && html`<span class="news"><span class="visually-hidden"> (changed)</span></span>`}
  </button>`;
}

function showPane(name) {
  showSide(name);
  showTab("document");
}

/** Esc closes the drawer, or stops what runs; a dialog takes its Esc itself. */
function onKeyDown(event) {
  if (event.key !== "Escape" || event.isComposing || state.dialog.value) return;
  if (state.drawerOpen.value) {
    showDrawer(false);
    document.querySelector(".drawer-button").focus();
  } else if (state.runningId.value !== null) cancel(state.runningId.value);
}
