/**
 * What was written and is not stored yet, kept in the tab: it outlives a reload, not a sign-out. Where the browser allows
 * no storage it lasts as long as the page.
 */

const PREFIX = "chatrelay.unsent.";
const ON_BUSY_KEY = "chatrelay.onBusy";

export function storedDraft(projectId) {
  return read(`${PREFIX}draft.${projectId}`) ?? "";
}

export function storeDraft(projectId, text) {
  write(`${PREFIX}draft.${projectId}`, text || null);
}

/** The messages of the outbox, as they were stored; [] where there is none. */
export function storedOutbox(projectId) {
  try {
    const items = JSON.parse(read(`${PREFIX}outbox.${projectId}`) ?? "[]");
    return Array.isArray(items) ? items : [];
  } catch {
    return [];
  }
}

export function storeOutbox(projectId, items) {
  write(`${PREFIX}outbox.${projectId}`, items.length ? JSON.stringify(items) : null);
}

export function storedOnBusy() {
  return read(ON_BUSY_KEY);
}

export function storeOnBusy(choice) {
  write(ON_BUSY_KEY, choice);
}

export function forgetDrafts() {
  try {
    const names = Object.keys(sessionStorage).filter((name) => name.startsWith(PREFIX));
    for (const name of names) sessionStorage.removeItem(name);
  } catch {
    // No storage, nothing kept.
  }
}

function read(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

function write(name, text) {
  try {
    if (text === null) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, text);
  } catch {
    // No storage, or no room in it.
  }
}
