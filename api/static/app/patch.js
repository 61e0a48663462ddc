/**
 * JSON Patch (RFC 6902). Pure: nothing is changed in place, and what a patch does not touch stays the very same value, so
 * that a reader of the new document sees by identity what is new.
 */
import { isContainer, isIndex, resolve, tokensOf } from "./pointer.js";

/** The patch does not apply; `index` is the failing operation's. */
export class PatchFailed extends Error {
  constructor(message, index) {
    super(message);
    this.name = "PatchFailed";
    this.index = index;
  }
}

/** The document after all of the operations, in order. Throws PatchFailed; the document given is as it was either way. */
export function applyPatch(document, operations) {
  let result = document;
  operations.forEach((operation, index) => {
    try {
      result = applyOperation(result, operation);
    } catch (error) {
      throw new PatchFailed(error.message, index);
    }
  });
  return result;
}

function applyOperation(document, operation) {
  const { op, path, from, value } = operation;
  if (typeof path !== "string") throw new Error(`${op} needs a path`);
  const tokens = tokensOf(path);
  switch (op) {
    case "add":
      return put(document, tokens, needed(operation), add);
    case "replace":
      return put(document, tokens, needed(operation), replace);
    case "remove":
      return put(document, tokens, undefined, remove);
    case "move": {
      if (path.startsWith(`${from}/`)) throw new Error("a value cannot be moved into itself");
      const moved = there(document, from);
      if (path === from) return document;
      return put(put(document, tokensOf(from), undefined, remove), tokens, moved, add);
    }
    case "copy":
      return put(document, tokens, there(document, from), add);
    case "test":
      if (!sameJson(there(document, path), needed(operation))) throw new Error("another value stands there");
      return document;
    default:
      throw new Error(`${op} is no operation: ${value}`);
  }
}

function needed({ op, value }) {
  if (value === undefined) throw new Error(`${op} needs a value`);
  return value;
}

function there(document, pointer) {
  if (typeof pointer !== "string") throw new Error("from is missing");
  const value = resolve(document, pointer);
  if (value === undefined) throw new Error("there is nothing at that place");
  return value;
}

/** A copy of `container` in which `change(holder, token, value)` took effect at the end of the way that `tokens` tell. */
function put(container, tokens, value, change) {
  if (tokens.length === 0) return change(null, null, value);
  const [token, ...rest] = tokens;
  if (!isContainer(container)) throw new Error("there is nothing below a plain value");
  if (rest.length === 0) return change(container, token, value);
  held(container, token);
  return withMember(container, token, put(container[token], rest, value, change));
}

function held(container, token) {
  const isThere = Array.isArray(container)
    ? isIndex(token) && Number(token) < container.length
    : Object.hasOwn(container, token);
  if (!isThere) throw new Error("there is nothing at that place");
}

/** Also where the key is `__proto__`: spreading and computed keys define, they don't assign. */
function withMember(container, token, value) {
  if (Array.isArray(container)) return container.with(Number(token), value);
  return { ...container, [token]: value };
}

function add(holder, token, value) {
  if (holder === null) return value;
  if (!Array.isArray(holder)) return withMember(holder, token, value);
  const index = token === "-" ? holder.length : Number(token);
  if ((token !== "-" && !isIndex(token)) || index > holder.length) throw new Error("the array has no such place");
  return holder.toSpliced(index, 0, value);
}

function replace(holder, token, value) {
  if (holder === null) return value;
  held(holder, token);
  return withMember(holder, token, value);
}

function remove(holder, token) {
  if (holder === null) return null;
  held(holder, token);
  if (Array.isArray(holder)) return holder.toSpliced(Number(token), 1);
  return Object.fromEntries(Object.entries(holder).filter(([key]) => key !== token));
}

/** Equality of JSON values; the order of an object's keys does not matter. */
export function sameJson(left, right) {
  if (left === right) return true;
  if (!isContainer(left) || !isContainer(right) || Array.isArray(left) !== Array.isArray(right)) return false;
  const keys = Object.keys(left);
  if (keys.length !== Object.keys(right).length) return false;
  return keys.every((key) => Object.hasOwn(right, key) && sameJson(left[key], right[key]));
}
