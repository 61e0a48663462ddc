/** Opening, making, renaming and deleting projects. */
import { batch } from "../../vendor/signals.js";
import * as state from "../state.js";
import { failInProject, loadDocument, takeProject } from "./document.js";
import { catchUp, loadNewest, showConnection, takeReady, takeTold } from "./messages.js";
import { fail, leaveProject, leaveWithdrawn, session, Visit, writeFragment } from "./session.js";

const AGAIN_AFTER_MS = 3000;
/** The code of a socket that is closed because access was withdrawn. */
const WITHDRAWN = 4403;

export async function openProject(projectId) {
  leaveProject();
  const visit = new Visit(projectId);
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
    onRefused: (error) => (error.closeCode === WITHDRAWN ? leaveWithdrawn() : failInProject(error)),
    onFailing: () => {
      visit.ready = null;
      if (!state.opening.value) catchUp();
    },
  });
}

/** Makes a project and opens it; throws what the server refused. `start` is `{template}` or `{document}`, or empty. */
export async function createProject(name, start) {
  const project = await session.client.createProject({ name, ...start });
  batch(() => {
    state.projects.value = [project, ...(state.projects.value ?? [])];
    state.dialog.value = null;
  });
  await openProject(project.id);
}

/** Changes the project's name, its schema, or both; throws what the server refused. */
export async function changeProject(projectId, changes) {
  const changed = await session.client.changeProject(projectId, changes);
  const withName = (item) => (item.id === projectId ? { ...item, name: changed.name } : item);
  batch(() => {
    state.projects.value = state.projects.value.map(withName);
    if (session.visit?.projectId === projectId) takeProject(changed);
    state.dialog.value = null;
  });
}

/** Deletes it; throws what the server refused. */
export async function deleteProject(projectId) {
  await session.client.deleteProject(projectId);
  await dropProject(projectId);
}

/** Takes it off the list, and opens the next one where it was open. */
export async function dropProject(projectId) {
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

/** Takes the first page of projects. */
export function takeProjects({ items, nextCursor }) {
  state.projects.value = items;
  state.moreProjects.value = { cursor: nextCursor, isLoading: false, error: null };
}

export async function loadMoreProjects() {
  const { cursor, isLoading } = state.moreProjects.value;
  if (isLoading || cursor === null) return;
  const { client } = session;
  state.moreProjects.value = { cursor, isLoading: true, error: null };
  try {
    const { items, nextCursor } = await client.projects(cursor);
    if (session.client !== client) return;
    const known = new Set(state.projects.value.map((item) => item.id));
    batch(() => {
      state.projects.value = [...state.projects.value, ...items.filter((item) => !known.has(item.id))];
      state.moreProjects.value = { cursor: nextCursor, isLoading: false, error: null };
    });
  } catch (error) {
    if (session.client !== client) return;
    state.moreProjects.value = { cursor, isLoading: false, error: error.message };
    if (error.status === 401) fail(error);
  }
}

/** Opens one of the dialogs: "create", "settings", "members", "delete" or "keys". */
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
