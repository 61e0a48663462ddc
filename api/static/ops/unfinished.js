/**
 * The messages that are not final, as far as they are known: from rows that were loaded, and from what was told since. Pure.
 *
 * Bounded: beyond `MOST` the oldest entries are dropped, and `isCut` says so.
 */

export const MOST = 20_000;
/** Ends that are remembered: a submit may be told after its message's end. */
const MOST_OVER = 2000;

export class Unfinished {
  constructor() {
    /** Message id to `{id, projectId, model, state, attempt, sinceMs, toldMs}`; state: waiting, running, building. */
    this.entries = new Map();
    this.isCut = false;
    /** What ended while rows are loaded, or null: those rows may still show it. */
    this.ended = null;
    this.over = new Set();
  }

  /** One line of the operators' channel. */
  take(line) {
    switch (line.type) {
      case "submitted":
        if (!this.entries.has(line.messageId) && !this.over.has(line.messageId)) this.put(line, { state: "waiting" });
        break;
      case "retried":
        this.put(line, { state: line.status === "building" ? "building" : "waiting", sinceMs: line.ts });
        break;
      case "started":
        this.put(line, { state: "running", attempt: line.attempt });
        break;
      case "attempt":
        if (line.state === "lost" || line.state === "handed_back") this.put(line, { state: "waiting" });
        break;
      case "cancelled":
        this.remove(line.messageId);
        break;
      case "finalized":
        if (line.status === "building") this.put(line, { state: "building" });
        else this.remove(line.messageId);
        break;
    }
  }

  /** To be called before rows are loaded. */
  beginLoad() {
    this.ended = new Set();
  }

  /**
   * Takes what `GET /v1/ops/messages` answered for unfinished ones since `beginLoad`. What was told later stands. `isWhole`:
   * the rows were all, so that what is not among them and was told before `beganMs` is over.
   */
  endLoad(rows, { beganMs, isWhole }) {
    const ended = this.ended ?? new Set();
    this.ended = null;
    const found = new Set();
    for (const row of rows) {
      found.add(row.id);
      if (ended.has(row.id) || (this.entries.get(row.id)?.toldMs ?? -Infinity) >= beganMs) continue;
      const state = row.heldBy !== null ? "running" : row.status === "building" ? "building" : "waiting";
      const sinceMs = Date.parse(row.enqueuedAt ?? row.createdAt);
      const { id, projectId, model, attempt } = row;
      this.entries.set(id, { id, projectId, model, attempt, state, sinceMs, toldMs: beganMs });
    }
    if (!isWhole) return;
    for (const [id, entry] of this.entries) if (!found.has(id) && entry.toldMs < beganMs) this.entries.delete(id);
  }

  put(line, changes) {
    const id = line.messageId;
    const known = this.entries.get(id) ?? { id, projectId: line.projectId, model: null, attempt: 0, sinceMs: line.ts };
    this.entries.set(id, { ...known, model: line.model ?? known.model, ...changes, toldMs: line.ts });
    this.ended?.delete(id);
    if (this.entries.size > MOST) {
      this.entries.delete(this.entries.keys().next().value);
      this.isCut = true;
    }
  }

  remove(id) {
    this.entries.delete(id);
    this.ended?.add(id);
    this.over.add(id);
    if (this.over.size > MOST_OVER) this.over.delete(this.over.values().next().value);
  }

  /** The `most` oldest, oldest first. */
  oldest(most) {
    const found = [];
    for (const entry of this.entries.values()) {
      if (found.length === most && entry.sinceMs >= found.at(-1).sinceMs) continue;
      found.push(entry);
      for (let at = found.length - 1; at > 0 && found[at].sinceMs < found[at - 1].sinceMs; at -= 1) {
        [found[at - 1], found[at]] = [found[at], found[at - 1]];
      }
      if (found.length > most) found.pop();
    }
    return found;
  }

  /** By project or by model: `[{key, running, waiting, building, sinceMs}]`, the most first; at most `most` of them. */
  grouped(name, most) {
    const groups = new Map();
    for (const entry of this.entries.values()) {
      const key = entry[name] ?? "";
      let group = groups.get(key);
      if (group === undefined) groups.set(key, (group = { key, running: 0, waiting: 0, building: 0, sinceMs: Infinity }));
      group[entry.state] += 1;
      group.sinceMs = Math.min(group.sinceMs, entry.sinceMs);
    }
    const size = (group) => group.running + group.waiting + group.building;
    return [...groups.values()].sort((left, right) => size(right) - size(left) || left.sinceMs - right.sinceMs).slice(0, most);
  }
}
