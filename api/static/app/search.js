/** Finding text in a document. Pure. */
import { below, isContainer } from "./pointer.js";

/** More than so many places are not listed. */
export const MOST_MATCHES = 1000;

/** What counts as the same text, whatever its case. */
export function folded(text) {
  return text.toLowerCase();
}

/** The pointers, in the document's order, at which the key or the plain value has `text` in it; none for no text. */
export function matchesIn(document, text) {
  const needle = folded(text.trim());
  const found = [];
  if (needle !== "") look(document, "", needle, found);
  return found;
}

function look(value, pointer, needle, found) {
  if (!isContainer(value)) return;
  const isObject = !Array.isArray(value);
  for (const [key, member] of Object.entries(value)) {
    if (found.length === MOST_MATCHES) return;
    const child = below(pointer, key);
    const isInKey = isObject && folded(key).includes(needle);
    if (isInKey || (!isContainer(member) && folded(String(member)).includes(needle))) found.push(child);
    look(member, child, needle, found);
  }
}

/** The text in pieces `{text, isMatch}`, for marking what was found. */
export function piecesOf(text, needle) {
  const wanted = folded(needle.trim());
  const whole = folded(text);
  if (wanted === "" || whole.length !== text.length) return [{ text, isMatch: false }];
  const pieces = [];
  let end = 0;
  for (let start = whole.indexOf(wanted); start !== -1; start = whole.indexOf(wanted, end)) {
    if (start > end) pieces.push({ text: text.slice(end, start), isMatch: false });
    end = start + wanted.length;
    pieces.push({ text: text.slice(start, end), isMatch: true });
  }
  if (end < text.length || pieces.length === 0) pieces.push({ text: text.slice(end), isMatch: false });
  return pieces;
}
