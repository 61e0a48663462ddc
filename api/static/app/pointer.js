/** JSON Pointers (RFC 6901). Pure. */

/** One reference token, escaped. */
export function escapeToken(token) {
  return String(token).replaceAll("~", "~0").replaceAll("/", "~1");
}

/** The reference tokens of a pointer, unescaped; none for the root's "". Throws RangeError where it is no pointer. */
export function tokensOf(pointer) {
  if (pointer === "") return [];
  if (!pointer.startsWith("/") || /~(?![01])/.test(pointer)) throw new RangeError("not a JSON Pointer");
  return pointer
    .slice(1)
    .split("/")
    .map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** The pointer to the member `token` of what `pointer` leads to. */
export function below(pointer, token) {
  return `${pointer}/${escapeToken(token)}`;
}

/** The pointer to what holds this one; null for the root's. */
export function parentOf(pointer) {
  return pointer === "" ? null : pointer.slice(0, pointer.lastIndexOf("/"));
}

/** The last reference token; null for the root's pointer. */
export function lastToken(pointer) {
  return tokensOf(pointer).at(-1) ?? null;
}

/** Every pointer above this one, the root's "" first. */
export function ancestors(pointer) {
  const found = [];
  for (let end = pointer.indexOf("/"); end !== -1; end = pointer.indexOf("/", end + 1)) found.push(pointer.slice(0, end));
  return found;
}

/** What the pointer leads to in the document; undefined, which no JSON value is, where that is nothing. */
export function resolve(document, pointer) {
  let value = document;
  for (const token of tokensOf(pointer)) {
    const isThere = Array.isArray(value) ? isIndex(token) : isContainer(value) && Object.hasOwn(value, token);
    if (!isThere) return undefined;
    value = value[token];
  }
  return value;
}

/** Whether the token is an array's index as RFC 6901 writes it: digits, without a leading zero. */
export function isIndex(token) {
  return /^(0|[1-9][0-9]*)$/.test(token);
}

/** Whether the value is an object or an array. */
export function isContainer(value) {
  return typeof value === "object" && value !== null;
}
