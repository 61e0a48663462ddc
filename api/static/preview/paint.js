/** Colours, places, pictures and chance, as scenes use them. */
import { createElement as h } from "../vendor/react.js";
import { Note } from "./note.js";

/** The colour where it is one that this browser knows, so that nothing else comes into a style. */
export function colorOr(given, otherwise) {
  return typeof given === "string" && CSS.supports("color", given) ? given : otherwise;
}

export function numberOr(given, otherwise) {
  return typeof given === "number" && Number.isFinite(given) ? given : otherwise;
}

/** Numbers from 0 to 1 that look like chance and are the same for the same seed. */
export function seeded(seed) {
  let state = 2166136261;
  for (const letter of seed) state = Math.imul(state ^ letter.codePointAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const EDGES = { top: ["flex-start", "center"], bottom: ["flex-end", "center"], left: ["center", "flex-start"], right: ["center", "flex-end"] };

/** Of a column of flex: where the content stands for a `position` such as "top-left". */
export function placed(position) {
  const [first, second] = `${position ?? "center"}`.split("-");
  const [vertical, horizontal] = EDGES[first] ?? ["center", "center"];
  const side = EDGES[second]?.[1];
  return { display: "flex", flexDirection: "column", justifyContent: vertical, alignItems: side ?? horizontal };
}

/** A picture out of the document itself. Those from elsewhere are not asked for: a labelled placeholder stands for them. */
export function Picture({ src, alt, style }) {
  if (typeof src === "string" && src.startsWith("data:image/")) {
    return h("img", { src, alt: alt ?? "", style: { width: "100%", height: "100%", ...style } });
  }
  return h("div", { style: { position: "absolute", inset: 0 } }, h(Note, { title: alt || "Picture", text: elsewhere(src) }));
}

function elsewhere(src) {
  try {
    return `from ${new URL(src).host}: not loaded in the preview`;
  } catch {
    return "not loaded in the preview";
  }
}
