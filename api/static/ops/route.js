/** What the page shows, as the address's fragment says it: `#message=<id>`, `#messages&status=error`, `#batch=<id>`. Pure. */

/** The filters of the list of messages, as they stand in the address and in the form. */
export const FILTERS = ["status", "code", "project", "model", "since", "slowerThan"];

/** `{view: "overview" | "message" | "messages" | "batches" | "batch", id?, filters?}`. */
export function readRoute(fragment) {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  if (given.get("message")) return { view: "message", id: given.get("message") };
  if (given.get("batch")) return { view: "batch", id: given.get("batch") };
  if (given.has("batches")) return { view: "batches" };
  if (given.has("messages")) {
    return { view: "messages", filters: Object.fromEntries(FILTERS.map((name) => [name, given.get(name) ?? ""])) };
  }
  return { view: "overview" };
}

/** The address of a list of messages. */
export function messagesAddress(filters = {}) {
  const given = FILTERS.filter((name) => filters[name]).map((name) => `&${name}=${encodeURIComponent(filters[name])}`);
  return `#messages${given.join("")}`;
}
