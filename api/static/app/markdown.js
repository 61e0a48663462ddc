/**
 * Markdown that grows: each piece of text is parsed once and appended, nothing that stands is built again.
 *
 * What a model writes is not trusted. No HTML passes through; links go to http, https and mailto addresses only, and
 * pictures are shown as links, so that showing an answer asks no other server for anything.
 */
import { highlight } from "./highlight.js";
import * as smd from "../vendor/streaming-markdown.js";

const LINK_PROTOCOLS = new Set(["http:", "https:", "mailto:"]);
/** The parser keeps its open elements in an array of this size less one; deeper nesting is shown as plain text. */
const DEPTH_MOST = 20;
/** Levels of headings that stand above a message's: the page's and the conversation's. */
const LEVELS_ABOVE = 2;
const HEADINGS = [smd.HEADING_1, smd.HEADING_2, smd.HEADING_3, smd.HEADING_4, smd.HEADING_5, smd.HEADING_6];

export class GrowingMarkdown {
  constructor(root) {
    this.root = root;
    this.reset();
  }

  /** Shows the text: appends where it continues what is shown, otherwise starts anew. `isWhole`: nothing will follow. */
  show(text, isWhole) {
    if (this.isWhole ? text !== this.text : !text.startsWith(this.text)) this.reset();
    const fresh = text.slice(this.text.length);
    this.text = text;
    try {
      if (fresh && !this.isPlain) smd.parser_write(this.parser, fresh);
      if (isWhole && !this.isWhole && !this.isPlain) smd.parser_end(this.parser);
    } catch (error) {
      if (!(error instanceof TooDeep)) throw error;
      this.isPlain = true;
    }
    this.isWhole = isWhole;
    if (this.isPlain) this.showPlain();
  }

  reset() {
    this.root.replaceChildren();
    this.text = "";
    this.isWhole = false;
    this.isPlain = false;
    this.parser = smd.parser(rendererInto(this.root));
  }

  showPlain() {
    const pre = document.createElement("pre");
    pre.tabIndex = 0;
    pre.textContent = this.text;
    this.root.replaceChildren(pre);
  }
}

class TooDeep extends Error {}

function rendererInto(root) {
  const renderer = smd.default_renderer(root);
  const levels = [];
  return {
    ...renderer,
    add_token(data, type) {
      if (data.index >= DEPTH_MOST) throw new TooDeep();
      if (type === smd.IMAGE) type = smd.LINK;
      if (HEADINGS.includes(type)) type = HEADINGS[levelBelow(levels, HEADINGS.indexOf(type)) - 1];
      smd.default_add_token(data, type);
      const element = data.nodes[data.index];
      if (element.parentNode === root) element.dir = "auto";
      if (type === smd.CODE_FENCE || type === smd.CODE_BLOCK) frameCode(element.parentNode);
      else if (type === smd.TABLE) frameTable(element);
      else if (type === smd.CHECKBOX) element.setAttribute("aria-label", "Done");
    },
    end_token(data) {
      const element = data.nodes[data.index];
      smd.default_end_token(data);
      const language = element.closest(".code-block")?.querySelector(".code-language").textContent;
      if (language && element.localName === "code") highlight(element, language);
    },
    set_attr(data, type, value) {
      const element = data.nodes[data.index];
      if (type === smd.HREF || type === smd.SRC) link(element, value);
      else if (type === smd.LANG) nameLanguage(element.parentNode.parentNode, value.slice(0, 40));
      else smd.default_set_attr(data, type, value);
    },
  };
}

/**
 * The level for a heading of the text's own level `own` (from 0): one below the nearest heading above it that the text
 * ranks higher, so that no level is left out, and below the page's. `levels` are the text's that stand open; changed.
 */
function levelBelow(levels, own) {
  while (levels.length > 0 && levels.at(-1) >= own) levels.pop();
  levels.push(own);
  return Math.min(LEVELS_ABOVE + levels.length, HEADINGS.length);
}

/** Puts a head over a block of code: its language, once known, and a button that copies it. */
function frameCode(pre) {
  const block = framed(pre, "code-block", "Code");
  const head = document.createElement("div");
  head.className = "code-head";
  const language = document.createElement("span");
  language.className = "code-language";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link copy-code";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the code");
  head.append(language, button);
  block.prepend(head);
  pre.tabIndex = 0;
  pre.dir = "ltr";
}

function nameLanguage(block, language) {
  block.querySelector(".code-language").textContent = language;
  block.setAttribute("aria-label", `Code, ${language}`);
}

/** A wide table scrolls inside its frame, which the keyboard reaches, and begins on the side that its text does. */
function frameTable(table) {
  const frame = framed(table, "table-frame", "Table");
  frame.tabIndex = 0;
  if (table.dir) frame.dir = table.dir;
  table.removeAttribute("dir"); // with one of its own its text would not count for the frame's
}

function framed(element, className, label) {
  const frame = document.createElement("div");
  frame.className = className;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", label);
  element.replaceWith(frame);
  frame.append(element);
  return frame;
}

function link(element, address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (!LINK_PROTOCOLS.has(url?.protocol)) return;
  element.href = url.href;
  element.target = "_blank";
  element.rel = "noopener noreferrer nofollow";
}
