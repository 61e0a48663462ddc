/**
 * What the page shows, as signals. Components read them; only actions/ writes them.
 */
import { computed, signal } from "../vendor/signals.js";
import { FINAL_STATUSES } from "./fold.js";

/** The token, or null where nobody is signed in. */
export const token = signal(null);
/** Why the last token was refused, in words, or null. */
export const signInError = signal(null);
/** `{model, models, scriptedModel, version}`, once known. */
export const info = signal(null);

/** The projects that the user may see, newest first; null while they are loaded for the first time. */
export const projects = signal(null);
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
/** What was written here and is not known to be stored: `{key, content, model, state, detail}`, the state one of sending,
 * unknown (trying again) and failed. */
export const outbox = signal([]);
/** Text to put into the composer, with a number that rises each time. */
export const draft = signal({ text: "", turn: 0 });

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
/** What is asked in a dialog: `{kind: "create" | "rename" | "delete", project?}`, or null. */
export const dialog = signal(null);
export const model = signal(null);

/** The oldest unfinished assistant message's id: the one that Stop stops; null where none is. */
export const runningId = computed(() => {
  const unfinished = messageIds.value.find((id) => {
    const { role, status } = messages.get(id).value;
    return role === "assistant" && !FINAL_STATUSES.has(status);
  });
  return unfinished ?? null;
});
