import { useEffect, useLayoutEffect, useRef } from "../../vendor/preact-hooks.js";
import { useComputed } from "../../vendor/signals.js";
import { editAddition, editKey, editValue, movePart, removePart } from "../actions/editing.js";
import { isUnfolded, select, setAllUnfolded, setUnfolded, SHOWN_FIRST, showMore } from "../actions/tree.js";
import { html } from "../html.js";
import { below, isContainer, parentOf, resolve } from "../pointer.js";
import { piecesOf } from "../search.js";
import * as state from "../state.js";
import { Editor } from "./Editor.js";
import { isTextField } from "./shortcuts.js";

/** Characters of a text that the tree shows; the whole of it is seen on changing or copying it. */
const SHOWN_CHARACTERS = 400;
const LABEL_CHARACTERS = 120;

/**
 * The document as a tree (the pattern of that name of the ARIA practices): one stop for Tab, arrows move in it. What
 * changed just now is lit up. Each part is drawn anew only when it is another value.
 */
export function Tree() {
  const root = useRef(null);
  const value = state.shownDocument.value;
  const lit = state.lit.value;
  const match = state.currentMatch.value;
  const focusTurn = state.treeFocus.value;
  useEffect(() => {
    if (lit.size && !state.editing.peek()) bringIntoView(root.current?.querySelector("[data-lit]"));
  }, [lit]);
  useEffect(() => {
    if (match !== null) bringIntoView(itemAt(root.current, match));
  }, [match]);
  useLayoutEffect(() => {
    if (focusTurn) itemAt(root.current, state.selected.peek())?.focus();
  }, [focusTurn]);
  if (value === null) return html`<p class="pane-empty quiet">Loading…</p>`;
  return html`
    <div class="tree" role="region" aria-label="The document's content">
      <ul ref=${root} role="tree" aria-label="Document" onKeyDown=${onKeyDown} onClick=${onClick} onDblClick=${onDoubleClick}>
        <${Node} name="document" value=${value} pointer="" level=${1} place=${1} count=${1} isRoot=${true} />
      </ul>
    </div>
  `;
}

function bringIntoView(item) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const row = item?.querySelector(".row");
  row?.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
}

function itemAt(root, pointer) {
  return root?.querySelector(`[data-pointer="${CSS.escape(pointer)}"]`) ?? null;
}

function Node({ name, value, pointer, level, place, count, isRoot }) {
  const mark = useComputed(() => state.lit.value.get(pointer)).value;
  const isSelected = useComputed(() => selectedItem() === pointer).value;
  const isMatch = useComputed(() => state.currentMatch.value === pointer).value;
  const editing = useComputed(() => (state.editing.value?.pointer === pointer ? state.editing.value.kind : null)).value;
  const isOpen = useComputed(() => isContainer(value) && isUnfolded(pointer)).value && isContainer(value);
  const isFoldable = isContainer(value);
  const summary = isFoldable ? summaryOf(value) : null;
  return html`
    <li
      role="treeitem"
      data-pointer=${pointer}
      data-lit=${mark}
      data-match=${isMatch ? "current" : undefined}
      aria-level=${level}
      aria-posinset=${place}
      aria-setsize=${count}
      aria-expanded=${isFoldable ? String(isOpen) : undefined}
      aria-selected=${String(isSelected)}
      aria-label=${labelOf(name, value, summary)}
      tabindex=${isSelected ? 0 : -1}
    >
      <div class="row">
        <span class="fold" aria-hidden="true">${isFoldable ? (isOpen ? "▾" : "▸") : ""}</span>
        ${" "}<${Text} class="name" text=${name} isFound=${!isRoot} />
        ${editing !== "value" && (isFoldable ? html`<span class="quiet" dir="auto">${summary}</span>` : html`<${Scalar} value=${value} />`)}
      </div>
      ${editing !== null && html`<${Editor} />`}
      ${isOpen && html`<${Members} value=${value} pointer=${pointer} level=${level + 1} />`}
    </li>
  `;
}

/** The part that Tab comes to: the selected one, or the whole where that is not there any more. */
function selectedItem() {
  const pointer = state.selected.value;
  return resolve(state.shownDocument.value, pointer) === undefined ? "" : pointer;
}

function Members({ value, pointer, level }) {
  const extent = useComputed(() => state.extents.value.get(pointer) ?? SHOWN_FIRST).value;
  const entries = Object.entries(value);
  const isList = Array.isArray(value);
  return html`<ul role="group">
    ${entries.slice(0, extent).map(([key, member], index) => {
      const child = below(pointer, key);
      return html`<${Node}
        key=${key}
        name=${key}
        value=${member}
        pointer=${child}
        level=${level}
        place=${index + 1}
        count=${entries.length}
        isRoot=${isList}
      />`;
    })}
    ${entries.length > extent &&
    html`<li role="treeitem" aria-level=${level} tabindex="-1" class="more" data-more=${pointer} aria-selected="false">
      <div class="row"><span class="fold"></span><span class="link-like">${entries.length - extent} more</span></div>
    </li>`}
  </ul>`;
}

function Scalar({ value }) {
  const kind = value === null ? "null" : typeof value;
  const whole = JSON.stringify(value);
  const isCut = whole.length > SHOWN_CHARACTERS;
  const text = isCut ? `${whole.slice(0, SHOWN_CHARACTERS)}…` : whole;
  return html`
    <${Text} class=${kind} text=${text} isFound=${true} />
    ${isCut && html` <span class="quiet">${whole.length.toLocaleString("en")} characters</span>`}
  `;
}

/** Text with what is searched for marked in it. */
function Text({ class: className, text, isFound }) {
  const needle = useComputed(() => (isFound ? state.search.value.text : "")).value;
  const pieces = piecesOf(text, needle);
  return html`<span class=${className} dir="auto"
    >${pieces.map((piece) => (piece.isMatch ? html`<mark>${piece.text}</mark>` : piece.text))}</span
  >`;
}

function labelOf(name, value, summary) {
  const words = isContainer(value) ? summary : JSON.stringify(value);
  return `${name}: ${words.length > LABEL_CHARACTERS ? `${words.slice(0, LABEL_CHARACTERS)}…` : words}`;
}

/** A word or two about a container, so that it need not be opened to be recognised. */
function summaryOf(value) {
  if (Array.isArray(value)) return value.length === 1 ? "1 item" : `${value.length} items`;
  const labels = ["title", "name", "type", "id"].map((key) => value[key]);
  const label = labels.find((text) => typeof text === "string" && text !== "");
  const count = Object.keys(value).length;
  return label?.slice(0, LABEL_CHARACTERS) ?? (count === 0 ? "empty" : count === 1 ? "1 key" : `${count} keys`);
}

function onClick(event) {
  const item = event.target.closest('[role="treeitem"]');
  if (!item || event.target.closest(".editor")) return;
  if (item.dataset.more !== undefined) showMore(item.dataset.more);
  else {
    const { pointer } = item.dataset;
    if (event.target.closest(".fold")) setUnfolded(pointer, item.getAttribute("aria-expanded") === "false");
    select(pointer, { focuses: true });
  }
}

function onDoubleClick(event) {
  const item = event.target.closest("[data-pointer]");
  if (!item || event.target.closest(".editor")) return;
  if (item.hasAttribute("aria-expanded")) setUnfolded(item.dataset.pointer, item.getAttribute("aria-expanded") === "false");
  else editValue(item.dataset.pointer);
}

function onKeyDown(event) {
  const item = event.target.closest('[role="treeitem"]');
  if (!item || isTextField(event.target) || event.target.closest(".editor")) return;
  if (event.ctrlKey || event.metaKey) return;
  const act = event.altKey ? ALT_KEYS[event.key] : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act(item);
}

const ALT_KEYS = {
  ArrowUp: ({ dataset }) => movePart(dataset.pointer, -1),
  ArrowDown: ({ dataset }) => movePart(dataset.pointer, 1),
};

const KEYS = {
  ArrowDown: (item) => go(item, 1),
  ArrowUp: (item) => go(item, -1),
  ArrowRight: (item) => step(item, "true"),
  ArrowLeft: (item) => step(item, "false"),
  Home: (item) => focusOn(itemsAround(item)[0]),
  End: (item) => focusOn(itemsAround(item).at(-1)),
  "*": ({ dataset }) => dataset.pointer !== undefined && setAllUnfolded(dataset.pointer, true),
  " ": toggle,
  Enter: (item) => (item.hasAttribute("aria-expanded") ? toggle(item) : open(item)),
  F2: ({ dataset }) => canRename(dataset.pointer) && editKey(dataset.pointer),
  Insert: (item) => item.hasAttribute("aria-expanded") && editAddition(item.dataset.pointer),
  Delete: ({ dataset }) => dataset.pointer && removePart(dataset.pointer),
};

function itemsAround(item) {
  return [...item.closest('[role="tree"]').querySelectorAll('[role="treeitem"]')];
}

function go(item, by) {
  const items = itemsAround(item);
  focusOn(items[items.indexOf(item) + by]);
}

/** To the right: opens, or goes in; to the left: closes, or goes out. */
function step(item, wanted) {
  const expanded = item.getAttribute("aria-expanded");
  if (expanded !== null && expanded !== wanted) setUnfolded(item.dataset.pointer, wanted === "true");
  else if (wanted === "true") focusOn(item.querySelector('[role="treeitem"]'));
  else focusOn(item.parentElement.closest('[role="treeitem"]'));
}

function toggle(item) {
  if (item.dataset.more !== undefined) showMore(item.dataset.more);
  else if (item.hasAttribute("aria-expanded")) {
    setUnfolded(item.dataset.pointer, item.getAttribute("aria-expanded") === "false");
  }
}

function open(item) {
  if (item.dataset.more !== undefined) showMore(item.dataset.more);
  else editValue(item.dataset.pointer);
}

function focusOn(item) {
  if (!item) return;
  if (item.dataset.pointer !== undefined) select(item.dataset.pointer);
  item.focus();
  item.querySelector(".row").scrollIntoView({ block: "nearest" });
}

/** Whether what is there has a key: members of objects do. */
export function canRename(pointer) {
  return pointer !== "" && !Array.isArray(resolve(state.documentValue.value, parentOf(pointer)));
}
