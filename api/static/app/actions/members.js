/** Who works on the open project. */
import { batch } from "../../vendor/signals.js";
import { membersOf, putMember, removeMember } from "../document_calls.js";
import * as state from "../state.js";
import { failInProject } from "./document.js";
import { dropProject } from "./projects.js";
import { session } from "./session.js";

const IN_WORDS = {
  last_owner: "A project keeps at least one owner: make somebody else an owner first.",
  forbidden: "Only owners may do that.",
};

export async function loadMembers() {
  const { visit, client } = session;
  state.members.value = { ...state.members.value, isLoading: true, error: null };
  try {
    const items = await membersOf(client, visit.projectId);
    if (!visit.isOver) state.members.value = { items, isLoading: false, error: null };
  } catch (error) {
    if (visit.isOver) return;
    state.members.value = { ...state.members.value, isLoading: false, error: error.message };
    if (error.status === 404) failInProject(error);
  }
}

/** Lets a user in, or gives a member another role. Throws an Error with words for what the server refused. */
export async function giveRole(user, role) {
  const { visit, client } = session;
  await worded(() => putMember(client, visit.projectId, user, role));
  if (visit.isOver) return;
  const others = state.members.value.items.filter((member) => member.user !== user);
  const items = [...others, { user, role }].sort((left, right) => (left.user < right.user ? -1 : 1));
  batch(() => {
    state.members.value = { ...state.members.value, items };
    if (user === state.me.value?.user) state.project.value = { ...state.project.value, role };
  });
}

/** Takes a member out. Throws an Error with words for what the server refused. */
export async function takeOut(user) {
  const { visit, client } = session;
  await worded(() => removeMember(client, visit.projectId, user));
  if (visit.isOver) return;
  const items = state.members.value.items.filter((member) => member.user !== user);
  state.members.value = { ...state.members.value, items };
}

/** Takes the user out, and leaves the project here too. Throws as `takeOut`. */
export async function leave() {
  const { visit } = session;
  await takeOut(state.me.value.user);
  if (!visit.isOver) await dropProject(visit.projectId);
}

async function worded(call) {
  try {
    await call();
  } catch (error) {
    throw new Error(error.errors?.[0]?.message ?? IN_WORDS[error.code] ?? error.message, { cause: error });
  }
}
