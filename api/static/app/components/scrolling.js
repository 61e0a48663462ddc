import { useLayoutEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { loadOlder } from "../actions/messages.js";
import * as state from "../state.js";

/** How near to the bottom counts as being there, and how near to the top loads what is older. */
const BOTTOM_PX = 40;
const TOP_PX = 600;
/** How long after what a reader did a movement upwards is still the reader's. */
const HAND_MS = 1000;
const HANDS = ["wheel", "touchmove", "keydown", "focusin"];
const KEYS_UPWARDS = new Set(["ArrowUp", "PageUp", "Home", " "]);

/**
 * Keeps the newest text in sight while the reader is at the bottom, and stays where the reader is otherwise: also when
 * older messages come in above.
 */
export function useStickyBottom() {
  const scroller = useRef(null);
  const list = useRef(null);
  const reader = useRef({ sticks: true, lastTop: 0, size: "", handAt: -Infinity, isHeld: false, firstId: null, fromBottom: 0 });
  const [isAtBottom, setAtBottom] = useState(true);
  const firstId = state.messageIds.value[0] ?? null;
  const projectId = state.project.value?.id;
  const unsentKey = state.outbox.value.at(-1)?.key;

  const toEnd = () => {
    const element = scroller.current;
    element.scrollTop = element.scrollHeight;
    reader.current.lastTop = element.scrollTop;
    reader.current.size = sizeOf(element);
  };
  const toBottom = () => {
    reader.current.sticks = true;
    toEnd();
    setAtBottom(true);
  };
  // Less below, or a higher frame, lowers the position as well: that is no reader who goes up.
  const isMovedByReader = () => {
    const { handAt, isHeld, size } = reader.current;
    return isHeld || performance.now() - handAt < HAND_MS || size === sizeOf(scroller.current);
  };
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = scroller.current;
    const near = scrollHeight - scrollTop - clientHeight < BOTTOM_PX;
    if (near) reader.current.sticks = true;
    else if (scrollTop < reader.current.lastTop && isMovedByReader()) reader.current.sticks = false;
    if (reader.current.sticks && !near) toEnd();
    reader.current.lastTop = scroller.current.scrollTop;
    reader.current.size = sizeOf(scroller.current);
    setAtBottom(near || reader.current.sticks);
    if (scrollTop < TOP_PX && !reader.current.sticks) loadOlder();
  };

  useLayoutEffect(() => {
    const element = scroller.current; // the last callback may come after it is gone from the page
    const observer = new ResizeObserver(() => {
      if (reader.current.sticks) toEnd();
    });
    observer.observe(list.current);
    observer.observe(element);
    const hands = new AbortController();
    const { signal } = hands;
    const onHand = (event) => {
      if (mayGoUp(event) && !reader.current.isHeld) reader.current.handAt = performance.now();
    };
    const onHeld = (isHeld) => () => {
      reader.current.isHeld = isHeld; // the bar, or text that is being selected
    };
    for (const type of HANDS) element.addEventListener(type, onHand, { signal, passive: true });
    element.addEventListener("pointerdown", onHeld(true), { signal });
    addEventListener("pointerup", onHeld(false), { signal });
    addEventListener("pointercancel", onHeld(false), { signal });
    return () => {
      observer.disconnect();
      hands.abort();
    };
  }, []);
  useLayoutEffect(toBottom, [projectId]);
  useLayoutEffect(() => {
    if (unsentKey !== undefined) toBottom();
  }, [unsentKey]);
  useLayoutEffect(() => {
    const { firstId: anchorId, fromBottom } = reader.current;
    if (anchorId !== null && firstId !== anchorId && !reader.current.sticks) {
      scroller.current.scrollTop = scroller.current.scrollHeight - fromBottom;
      reader.current.lastTop = scroller.current.scrollTop;
    }
    reader.current.firstId = firstId;
  }, [firstId]);
  if (scroller.current) reader.current.fromBottom = scroller.current.scrollHeight - scroller.current.scrollTop;
  return { scroller, list, isAtBottom, onScroll, toBottom };
}

function mayGoUp({ type, deltaY, key }) {
  if (type === "wheel") return deltaY < 0;
  return type !== "keydown" || KEYS_UPWARDS.has(key);
}

function sizeOf({ scrollHeight, clientHeight }) {
  return `${scrollHeight} ${clientHeight}`;
}
