/**
 * What the page holds besides its signals: the client of whoever is signed in, and the visit to the project that is open.
 */
import { batch } from "../../vendor/signals.js";
import * as state from "../state.js";
import { storeToken } from "../stored_token.js";
import { forgetDrafts } from "./drafts.js";

const READY_WITHIN_MS = 1500;

/** The one session of this page; `client` and `visit` are null while there is none. */
export const session = { client: null, visit: null };

/** The time from opening a project to leaving it. What comes back after its end is dropped: look at `isOver`. */
export class Visit {
  constructor(projectId) {
    this.projectId = projectId;
    this.isOver = false;
    /** Where its events come from: what `client.watch` answered. */
    this.watching = null;
    /** What was told of messages whose rows are not known yet, or that are being told anew: message id to state (fold.js). */
    this.replays = new Map();
    /** What the project's socket said when it stood; null before, and where none passes. */
    this.ready = null;
    /** Settled once the socket stands, or is late: what is loaded after `ready` needs not be loaded again. */
    this.isReady = new Promise((resolve) => {
      this.onceReady = resolve;
    });
    /** Settled once what was sent so far is stored or refused. */
    this.posted = Promise.resolve();
    this.timers = new Map();
    this.later("ready", READY_WITHIN_MS, this.onceReady);
  }

  /** Calls `act` after a while, unless the visit is over by then or the same name is given another time. */
  later(name, delayMs, act) {
    this.drop(name);
    this.timers.set(name, setTimeout(act, delayMs));
  }

  drop(name) {
    clearTimeout(this.timers.get(name));
  }

  end() {
    this.isOver = true;
    this.watching?.stop();
    for (const timer of this.timers.values()) clearTimeout(timer);
  }
}

/** Ends the visit and empties what it showed. */
export function leaveProject() {
  session.visit?.end();
  session.visit = null;
  batch(() => {
    state.messages.clear();
    state.jobs.value = new Map();
    state.changes.clear();
    state.rewriting.value = null;
    state.project.value = null;
    state.opening.value = false;
    state.documentValue.value = null;
    state.documentVersion.value = null;
    state.documentUnseen.value = false;
    state.lit.value = new Map();
    state.unfolded.value = new Map();
    state.extents.value = new Map();
    state.selected.value = "";
    state.search.value = { text: "", at: 0 };
    state.editing.value = null;
    state.conflict.value = null;
    state.documentNote.value = null;
    state.lookingAt.value = null;
    state.versions.value = { items: [], nextCursor: null, isLoading: false, error: null };
    state.openVersion.value = null;
    state.comparison.value = null;
    state.messageVersions.value = new Map();
    state.members.value = { items: [], isLoading: false, error: null };
    state.messageIds.value = [];
    state.olderCursor.value = null;
    state.loadingOlder.value = false;
    state.outbox.value = [];
    state.connection.value = "ok";
    state.notice.value = null;
    state.tab.value = "chat";
  });
}

/** Leaves a project that is gone, or of which the user is no member any more, and says so. */
export function leaveWithdrawn() {
  const projectId = session.visit?.projectId;
  const name = state.project.value?.name;
  leaveProject();
  writeFragment(null);
  const words = name ? `“${name}” was deleted, or you are no longer a member of it.` : "There is no such project, or it is not yours.";
  batch(() => {
    state.projects.value = (state.projects.value ?? []).filter((item) => item.id !== projectId);
    state.dialog.value = null;
    state.notice.value = words;
  });
}

/** Forgets who was signed in, here and in the browser's storage. */
export function forget() {
  leaveProject();
  storeToken(null);
  forgetDrafts();
  session.client = null;
  batch(() => {
    state.token.value = null;
    state.me.value = null;
    state.projects.value = null;
    state.moreProjects.value = { cursor: null, isLoading: false, error: null };
    state.dialog.value = null;
    state.drawerOpen.value = false;
  });
}

/** Says what went wrong; a token that is no longer good ends the session. */
export function fail(error) {
  if (error.status === 401) {
    forget();
    state.signInError.value = "This token is not known here any more.";
  } else state.notice.value = error.message;
}

/** Tells a screen reader. */
export function announce(text) {
  state.announcement.value = text;
}

/** Names the project in the address, so that a reload and a bookmark come back to it. */
export function writeFragment(projectId) {
  history.replaceState(null, "", projectId ? `#project=${projectId}` : location.pathname + location.search);
}
