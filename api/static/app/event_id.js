/**
 * Event ids: `<attempt>-<n>`, two decimal numbers. They are compared as numbers, so that 1-10 comes after 1-9. Pure.
 */

/** The id's `[attempt, n]`; throws a RangeError where it is not an id. */
export function parseEventId(id) {
  const match = /^(\d{1,15})-(\d{1,16})$/.exec(id);
  if (!match) throw new RangeError(`not an event id: ${id}`);
  return [Number(match[1]), Number(match[2])];
}

export function attemptOf(id) {
  return parseEventId(id)[0];
}

/** Below zero where `left` comes before `right`, zero where they are the same event, above zero where it comes after. */
export function compareEventIds(left, right) {
  const [leftAttempt, leftN] = parseEventId(left);
  const [rightAttempt, rightN] = parseEventId(right);
  return leftAttempt - rightAttempt || leftN - rightN;
}

/** A position after every event of the attempt, and before every event of the next. */
export function endOfAttempt(attempt) {
  return `${attempt}-${Number.MAX_SAFE_INTEGER}`;
}

/** Whether the position is one that `endOfAttempt` made, and no event's id. */
export function isEndOfAttempt(position) {
  return parseEventId(position)[1] === Number.MAX_SAFE_INTEGER;
}

/**
 * Whether a reader at `position` (null: at the start) may take the event as the next one: it is newer, and either a
 * snapshot, the first event of all, or the very next one of its attempt. False for what would leave a gap and for a
 * merged delta of which a part was shown already.
 */
export function isNext(position, event) {
  if (event.type === "snapshot") return position === null || compareEventIds(event.id, position) > 0;
  const [attempt, n] = parseEventId(event.from ?? event.id);
  if (position === null) return n === 0;
  const [lastAttempt, lastN] = parseEventId(position);
  return attempt === lastAttempt && n === lastN + 1;
}
