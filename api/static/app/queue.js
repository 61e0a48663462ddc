/**
 * The line in which a project's messages wait, as far as the page knows them. Pure.
 */

const ORDINAL_ENDINGS = { one: "st", two: "nd", few: "rd", other: "th" };
const ordinals = new Intl.PluralRules("en", { type: "ordinal" });

/**
 * The ids of the assistant messages that are in line, the one that is written first. A message that does not wait for
 * others (`queueNumber` null before it is written) is not in it, nor is one that is being built, since it holds nobody up.
 *
 * Two have the same number where the server moved one up that the page has not heard of: who came later goes first.
 * Where rows bear no number at all, the order is that of their making.
 */
export function line(messages) {
  const pending = messages.filter(({ role, status }) => role === "assistant" && status === "pending");
  const numbered = pending.filter(({ queueNumber }) => queueNumber !== null).sort(compare);
  if (numbered.some(isWritten)) return numbered.map(({ id }) => id);
  const first = pending.find((message) => message.queueNumber === null && isWritten(message));
  return (first ? [first, ...numbered] : numbered).map(({ id }) => id);
}

function isWritten(message) {
  return message.activity !== null;
}

function compare(left, right) {
  const byNumber = (left.queueNumber ?? 0) - (right.queueNumber ?? 0);
  if (byNumber !== 0) return byNumber;
  const byTime = left.id < right.id ? -1 : 1; // ids are in the order of their making
  return left.queueNumber === undefined ? byTime : -byTime;
}

/** 2 → "2nd". */
export function ordinal(number) {
  return `${number}${ORDINAL_ENDINGS[ordinals.select(number)]}`;
}
