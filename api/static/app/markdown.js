/**
 * Markdown that grows: each piece of text is parsed once and appended, nothing that stands is built again.
 *
 * What a model writes is not trusted. No HTML passes through; links go to http, https and mailto addresses only, and
 * pictures are shown as links, so that showing an answer asks no other server for anything.
 */
import * as smd from "../vendor/streaming-markdown.js";

const LINK_PROTOCOLS = new Set(["http:", "https:", "mailto:"]);
/** The parser keeps its open elements in an array of this size less one; deeper nesting is shown as plain text. */
const DEPTH_MOST = 20;

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
    pre.textContent = this.text;
    this.root.replaceChildren(pre);
  }
}

class TooDeep extends Error {}

function rendererInto(root) {
  const renderer = smd.default_renderer(root);
  return {
    ...renderer,
    add_token(data, type) {
      if (data.index >= DEPTH_MOST) throw new TooDeep();
      if (type === smd.IMAGE) type = smd.LINK;
      smd.default_add_token(data, type);
      const element = data.nodes[data.index];
      if (element.parentNode === root || type === smd.LIST_ITEM) element.dir = "auto";
      if (type === smd.CODE_FENCE || type === smd.CODE_BLOCK) element.parentNode.tabIndex = 0;
    },
    set_attr(data, type, value) {
      const element = data.nodes[data.index];
      if (type === smd.HREF || type === smd.SRC) link(element, value);
      else if (type === smd.LANG) element.parentNode.dataset.language = value.slice(0, 40);
      else smd.default_set_attr(data, type, value);
    },
  };
}

function link(element, address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (!LINK_PROTOCOLS.has(url?.protocol)) return;
  element.href = url.href;
  element.target = "_blank";
  element.rel = "noopener noreferrer nofollow";
}
