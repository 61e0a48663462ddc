/**
 * What the operators' page shows, as signals. Components read them; only actions/ writes them.
 */
import { signal } from "../vendor/signals.js";
import { History } from "./history.js";
import { readRoute } from "./route.js";
import { Unfinished } from "./unfinished.js";

/** The token, or null where nobody is signed in. */
export const token = signal(null);
/** Why the last token was refused, in words, or null. */
export const signInError = signal(null);
/** `{user, scopes}` of the token, once known. */
export const me = signal(null);
/** Whether the token has no `ops` scope, or it was taken away. */
export const isDenied = signal(false);
/** `{model, models, scriptedModel, version}`, once known. */
export const info = signal(null);

/** What of the page is shown (route.js). */
export const route = signal(readRoute(""));

/** `{state, sinceMs}`: "connecting" at first, then "ok" or "cut". */
export const connection = signal({ state: "connecting", sinceMs: 0 });
/** What may be lacking in what is shown, in words, or null. */
export const gap = signal(null);

/** The newest summary, and why there is no newer one, in words, or null. */
export const summary = signal(null);
export const summaryError = signal(null);
/** The server's clock less this one, in ms. */
export const clockSkewMs = signal(0);

/**
 * What was told, for as long as the page is open. They are no signals: they change two thousand times a second. `beat` rises
 * when they are to be drawn again, a few times a second, and `step` when a step of the history is over.
 */
export const live = { history: new History(), unfinished: new Unfinished() };
export const beat = signal(0);
export const step = signal(0);
/** Which part of the hour the charts show: a key of RANGES in Charts.js. */
export const range = signal("5m");
/** How unfinished messages are listed: "age", "projectId" or "model". */
export const grouping = signal("age");

/** The message that is looked at: `{id, details, error, act}`; act: `{isBusy, problem}` of cancel and retry. */
export const message = signal({ id: null, details: null, error: null, act: { isBusy: false, problem: null } });

/** Messages found: `{items, cursor, isLoading, error}`, items null before the first answer. */
export const found = signal({ items: null, cursor: null, isLoading: false, error: null });
/** Ids that are ticked among them. */
export const ticked = signal(new Set());
/** A batch that is thought of: `{wanted, key, explanation, error, isBusy}`, or null. */
export const draft = signal(null);

/** Batches, newest first: as `found`. */
export const batches = signal({ items: null, cursor: null, isLoading: false, error: null });
/** The batch that is looked at: `{id, report, error, isBusy, problem}`. */
export const batch = signal({ id: null, report: null, error: null, isBusy: false, problem: null });

/** What a screen reader is told: what became of an action, and lost connections; never figures. */
export const announcement = signal("");
