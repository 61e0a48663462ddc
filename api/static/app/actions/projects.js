/** Opening, making, renaming and deleting projects. */
import { batch } from "../../vendor/signals.js";
import * as state from "../state.js";
import { loadDocument } from "./document.js";
import { catchUp, loadNewest, showConnection, takeReady, takeTold } from "./messages.js";
import { fail, leaveProject, session, Visit, writeFragment } from "./session.js";

const AGAIN_AFTER_MS = 3000;

export async function openProject(projectId) {
  leaveProject();
  const visit = new Visit(projectId);
  const { client } = session;
  session.visit = visit;
  batch(() => {
    state.opening.value = true;
    state.drawerOpen.value = false;
  });
  writeFragment(projectId);
  watch(visit);
  try {
    await visit.isReady;
    if (visit.isOver) return;
    const { ready } = visit;
    await Promise.all([loadDocument(), loadNewest()]);
    if (visit.isOver) return;
    state.opening.value = false;
    if (visit.ready !== ready || ready?.version > state.documentVersion.value) catchUp();
  } catch (error) {
    if (visit.isOver) return;
    if (error.isTransient) visit.later("open", AGAIN_AFTER_MS, () => openProject(projectId));
    else state.opening.value = false;
    if (error.status === 404) writeFragment(null);
    fail(error);
  }
}

function watch(visit) {
  visit.watching = session.client.watch(visit.projectId, {
    onReady: takeReady,
    onEvent: takeTold,
    onConnection: (isConnected) => {
      showConnection(isConnected);
      if (!isConnected) visit.onceReady(); // what can be shown is shown
    },
    onRefused: (error) => leaveRefused(visit, error),
    onFailing: () => {
      visit.ready = null;
      if (!state.opening.value) catchUp();
    },
  });
}

/** The server will not tell any more: the project is gone, or not this person's any more. */
function leaveRefused(visit, error) {
  if (visit.isOver) return;
  if (error.closeCode !== 4403 && error.status !== 404) {
    fail(error);
    return;
  }
  leaveProject();
  writeFragment(null);
  batch(() => {
    state.projects.value = (state.projects.value ?? []).filter((item) => item.id !== visit.projectId);
    state.notice.value = "This project was deleted, or you are not one of its members any more.";
  });
}

/** Makes a project and opens it; throws what the server refused. */
export async function createProject(name, template) {
  const project = await session.client.createProject({ name, template });
  batch(() => {
    state.projects.value = [project, ...(state.projects.value ?? [])];
    state.dialog.value = null;
  });
  await openProject(project.id);
}

/** Throws what the server refused. */
export async function renameProject(projectId, name) {
  const renamed = await session.client.renameProject(projectId, name);
  const withName = (project) => (project?.id === projectId ? { ...project, name: renamed.name } : project);
  batch(() => {
    state.projects.value = state.projects.value.map(withName);
    state.project.value = withName(state.project.value);
    state.dialog.value = null;
  });
}

/** Deletes it, and opens the next one where it was open; throws what the server refused. */
export async function deleteProject(projectId) {
  await session.client.deleteProject(projectId);
  const left = state.projects.value.filter((item) => item.id !== projectId);
  batch(() => {
    state.projects.value = left;
    state.dialog.value = null;
  });
  if (session.visit?.projectId !== projectId) return;
  leaveProject();
  writeFragment(null);
  if (left.length) await openProject(left[0].id);
}

/** Opens one of the dialogs: "create", "rename" or "delete". */
export function askFor(kind, project = null) {
  state.dialog.value = { kind, project };
}

export function closeDialog() {
  state.dialog.value = null;
}

export function showDrawer(isOpen) {
  state.drawerOpen.value = isOpen;
}

export function dismissNotice() {
  state.notice.value = null;
}
