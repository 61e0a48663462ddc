/**
 * What the page shows, as signals. Components read them; only actions/ writes them.
 */
import { computed, signal } from "../vendor/signals.js";
import { FINAL_STATUSES } from "./fold.js";
import { line } from "./queue.js";
import { matchesIn } from "./search.js";

/** The token, or null where nobody is signed in. */
export const token = signal(null);
/** Why the last token was refused, in words, or null. */
export const signInError = signal(null);
/** `{model, models, scriptedModel, version}`, once known. */
export const info = signal(null);

/** `{user, scopes}` of the token, once known; null also where the server does not tell. */
export const me = signal(null);

/** The projects that the user may see, newest first; null while they are loaded for the first time. */
export const projects = signal(null);
/** The list's next page: `{cursor, isLoading, error}`, the cursor null where there is none. */
export const moreProjects = signal({ cursor: null, isLoading: false, error: null });
/** The project that is open (without its document), or null. */
export const project = signal(null);
/** True from the choice of a project until its messages are there. */
export const opening = signal(false);

/** The open project's document, and the version that it is. */
export const documentValue = signal(null);
export const documentVersion = signal(null);
/** What changed just now: pointer to kind, as diff.js tells; empty again a few seconds later. */
export const lit = signal(new Map());
/** Parts of the document that the reader opened or closed: pointer to boolean. */
export const unfolded = signal(new Map());
/** How many members are shown of those parts of the document that have very many: pointer to count. */
export const extents = signal(new Map());
/** The part of the document that the actions are about, as a pointer. */
export const selected = signal("");
/** Rises each time that the selected part is to have the focus. */
export const treeFocus = signal(0);
/** The text that is searched for in the document, and which of the places found is looked at. */
export const search = signal({ text: "", at: 0 });
/**
 * What is edited by hand: `{kind, pointer, base, version, type, text, key, beneath, problem, isBusy}`, or null. Kind: value,
 * add, rename. `base` is the document of `version`, which the person saw; `beneath` see edits.js; `problem` is
 * `{detail, places}`.
 */
export const editing = signal(null);
/** Changes that could not be stored because somebody was faster: `{version, theirs, mine, rebased, touches, edit}`, or null. */
export const conflict = signal(null);
/** What became of an action on the document, in words: `{isBad, text, places}`, or null. */
export const documentNote = signal(null);
/** A former version of the document that is looked at: `{version, document}`, document null while it is loaded, or null. */
export const lookingAt = signal(null);

/** The document's versions, newest first: `{items, nextCursor, isLoading, error}`. */
export const versions = signal({ items: [], nextCursor: null, isLoading: false, error: null });
/** The version that is unfolded in the list, or null. */
export const openVersion = signal(null);
/** Two versions compared: `{from, to, changes, error}`; null where nothing is compared. */
export const comparison = signal(null);
/** Versions that messages are known to have made: message id to numbers. */
export const messageVersions = signal(new Map());

/** The open project's members: `{items, isLoading, error}`. */
export const members = signal({ items: [], isLoading: false, error: null });

/** Whether the document changed while the reader looked at the chat (narrow screens). */
export const documentUnseen = signal(false);

/** Component jobs that are known, by their ids. */
export const jobs = signal(new Map());

/** Ids of the messages, oldest first, and each one's state (fold.js) in a signal of its own. */
export const messageIds = signal([]);
export const messages = new Map();
/** The cursor of the next older page; null where there is none. */
export const olderCursor = signal(null);
export const loadingOlder = signal(false);
/** What was written here and is not known to be stored: `{key, content, model, onBusy, state, detail}`, the state one of
 * sending, unknown (trying again) and failed. */
export const outbox = signal([]);
/** Text to put into the composer, with a number that rises each time. */
export const draft = signal({ text: "", turn: 0 });
/** The id of the user's message whose text is in the composer to be asked again with changes, or null. */
export const rewriting = signal(null);
/** What the next message does while an answer is unfinished: "queue", "parallel" or "interrupt". */
export const onBusy = signal("queue");
/** What tool calls did to the document: toolCallId to a signal of null, until somebody wants to see it, or of `{state:
 * "loading" | "ready" | "failed", version, changes, detail}`. Read by `changesOf`. */
export const changes = new Map();
export function changesOf(toolCallId) {
  if (!changes.has(toolCallId)) changes.set(toolCallId, signal(null));
  return changes.get(toolCallId);
}

/** Rises each time that the composer is to have the focus. */
export const composerFocus = signal(0);

/** "ok", "lost" while events can't arrive, "back" for a moment after. */
export const connection = signal("ok");
/** Words about something that failed outside a message, or null. */
export const notice = signal(null);
/** What a screen reader is told: changes of state, never single words of an answer. */
export const announcement = signal("");
/** Which of the two is seen where there is room for one: "chat" or "document". */
export const tab = signal("chat");
/** Which pane is seen beside the chat, by its name in SidePane.js. */
export const side = signal("document");
/** Whether the list of projects is open where it has no column of its own. */
export const drawerOpen = signal(false);
/** What is asked in a dialog: `{kind: "create" | "settings" | "members" | "delete" | "keys", project?}`, or null. */
export const dialog = signal(null);
export const model = signal(null);

/** Whether the user may write in the open project; who only may read it is shown nothing that writes. */
export const canWrite = computed(() => project.value?.role !== "viewer");

const unfinished = computed(() =>
  messageIds.value
    .map((id) => messages.get(id).value)
    .filter(({ role, status }) => role === "assistant" && !FINAL_STATUSES.has(status)),
);
/** The id of the assistant message that Stop stops: the oldest that is written, else that waits, else that is built; null
 * where none is unfinished. */
export const runningId = computed(() => {
  const pending = unfinished.value.filter(({ status }) => status === "pending");
  const written = pending.find(({ activity }) => activity !== null);
  return (written ?? pending[0] ?? unfinished.value[0])?.id ?? null;
});
/** Whether the next message has to wait for an answer, unless it is told not to. */
export const isBusy = computed(() => unfinished.value.some(({ status }) => status === "pending"));
const inLine = computed(() => line(unfinished.value).join(" "));
/** The place in line of an assistant message, counted from 1 for the one that is written; 0 where it is in none. */
export const placeInLine = (messageId) => inLine.value.split(" ").indexOf(messageId) + 1;

/** Whether more than one person wrote what is shown. */
export const hasSeveralAuthors = computed(() => {
  const names = messageIds.value.map((id) => messages.get(id).value.author ?? null);
  return new Set(names.filter((name) => name !== null)).size > 1;
});

/** What of the newest message can be seen, as a text to be compared: it differs when there is something new to read. */
export const newest = computed(() => {
  const id = messageIds.value.at(-1);
  if (id === undefined) return "";
  const { content, toolCalls, status } = messages.get(id).value;
  return `${id} ${content.length} ${toolCalls?.length} ${status}`;
});

/** The document that is shown: a former one where one is looked at. */
export const shownDocument = computed(() => (lookingAt.value === null ? documentValue.value : lookingAt.value.document));
/** Whether the user may change what is shown. */
export const canEdit = computed(() => lookingAt.value === null && mayEdit.value);
/** Whether the user's role lets the document be changed. */
export const mayEdit = computed(() => ["owner", "editor"].includes(project.value?.role));
/** The places at which what is searched for was found. */
export const matches = computed(() => matchesIn(shownDocument.value, search.value.text));
/** The place found that is looked at, or null. */
export const currentMatch = computed(() => matches.value[search.value.at] ?? null);
