/**
 * JSON as a person types it: read strictly, and what is wrong told by line and column, the same in every browser. Pure.
 *
 * Stricter than `JSON.parse` where that would lose something without a word, or the server refuses: a key twice in an
 * object, an integer that a browser can't keep, a number that overflows, more than `MOST_DEPTH` containers in one another.
 */

const MOST_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const WORD = /true|false|null/y;
const BLANK = /[ \t\n\r]*/y;

/** The text is not JSON. `line` and `column` count from 1. */
export class JsonTextError extends Error {
  constructor(message, text, offset) {
    const before = text.slice(0, offset).split("\n");
    super(`Line ${before.length}, column ${before.at(-1).length + 1}: ${message}`);
    this.name = "JsonTextError";
    this.line = before.length;
    this.column = before.at(-1).length + 1;
    this.offset = offset;
  }
}

/** The value that the text tells. Throws JsonTextError. */
export function parseJsonText(text) {
  const reader = new Reader(text);
  const value = reader.value(1);
  reader.blank();
  if (reader.at < text.length) reader.fail("nothing more is expected here");
  return value;
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  fail(message, at = this.at) {
    throw new JsonTextError(at >= this.text.length ? "the text ends too early" : message, this.text, at);
  }

  /** What the pattern finds right here, or null. */
  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) return null;
    this.at = pattern.lastIndex;
    return found[0];
  }

  blank() {
    this.take(BLANK);
  }

  /** Passes the character if it comes next. */
  passes(character) {
    this.blank();
    if (this.text[this.at] !== character) return false;
    this.at += 1;
    return true;
  }

  value(depth) {
    this.blank();
    const start = this.at;
    if (depth > MOST_DEPTH && /[[{]/.test(this.text[start] ?? "")) this.fail(`this is nested deeper than ${MOST_DEPTH}`);
    if (this.passes("{")) return this.object(depth);
    if (this.passes("[")) return this.array(depth);
    if (this.text[start] === '"') return this.string();
    const word = this.take(WORD);
    if (word !== null) return JSON.parse(word);
    const digits = this.take(NUMBER);
    if (digits === null) this.fail("a value is expected here: text in double quotes, a number, true, false, null, [ or {");
    return this.number(digits, start);
  }

  number(digits, start) {
    const value = Number(digits);
    if (!Number.isFinite(value)) this.fail("this number is too large", start);
    if (/^-?[0-9]+$/.test(digits) && !Number.isSafeInteger(value)) {
      this.fail("this number has more digits than a browser keeps", start);
    }
    return value;
  }

  string() {
    const start = this.at;
    const found = this.take(STRING);
    if (found === null) this.fail("this text is not closed, or has a character in it that needs a backslash", start);
    const value = JSON.parse(found);
    if (value.includes("\u0000") || !value.isWellFormed()) this.fail("this text has a character that can't be stored", start);
    return value;
  }

  array(depth) {
    const items = [];
    if (this.passes("]")) return items;
    do items.push(this.value(depth + 1));
    while (this.passes(","));
    if (!this.passes("]")) this.fail("a comma or ] is expected here");
    return items;
  }

  object(depth) {
    const members = new Map();
    if (this.passes("}")) return {};
    do {
      this.blank();
      const start = this.at;
      if (this.text[start] !== '"') this.fail("a key in double quotes is expected here");
      const key = this.string();
      if (members.has(key)) this.fail(`the key ${JSON.stringify(key)} is there twice`, start);
      if (!this.passes(":")) this.fail("a colon is expected here");
      members.set(key, this.value(depth + 1));
    } while (this.passes(","));
    if (!this.passes("}")) this.fail("a comma or } is expected here");
    return Object.fromEntries(members);
  }
}
