/** Opening, making, renaming and deleting projects. */
import { batch } from "../../vendor/signals.js";
import { Live } from "../live.js";
import * as state from "../state.js";
import { takeProject } from "./document.js";
import { followUnfinished, PAGE_SIZE, showConnection, takeEvent, takeNewest, takeRow } from "./messages.js";
import { fail, leaveProject, session, Visit, writeFragment } from "./session.js";

const AGAIN_AFTER_MS = 3000;

export async function openProject(projectId) {
  leaveProject();
  const visit = new Visit(projectId);
  const { client } = session;
  session.visit = visit;
  visit.live = new Live(client, {
    onEvent: takeEvent,
    onRow: takeRow,
    onRefused: (messageId, error) => fail(error),
    onConnection: showConnection,
  });
  batch(() => {
    state.opening.value = true;
    state.drawerOpen.value = false;
  });
  writeFragment(projectId);
  try {
    const [project, page] = await Promise.all([
      client.project(projectId),
      client.messages(projectId, { limit: PAGE_SIZE }),
    ]);
    if (visit.isOver) return;
    batch(() => {
      takeProject(project);
      takeNewest(page);
      state.opening.value = false;
    });
    followUnfinished();
  } catch (error) {
    if (visit.isOver) return;
    if (error.isTransient) visit.later("open", AGAIN_AFTER_MS, () => openProject(projectId));
    else state.opening.value = false;
    if (error.status === 404) writeFragment(null);
    fail(error);
  }
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

/** Opens one of the dialogs: "create", "rename", "delete" or "keys". */
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
