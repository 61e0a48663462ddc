import { useLayoutEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { loadOlder } from "../actions/messages.js";
import * as state from "../state.js";

/** How near to the bottom counts as being there, and how near to the top loads what is older. */
const BOTTOM_PX = 40;
const TOP_PX = 600;

/**
 * Keeps the newest text in sight while the reader is at the bottom, and stays where the reader is otherwise: also when
 * older messages come in above.
 */
export function useStickyBottom() {
  const scroller = useRef(null);
  const list = useRef(null);
  const reader = useRef({ sticks: true, lastTop: 0, firstId: null, fromBottom: 0 });
  const [isAtBottom, setAtBottom] = useState(true);
  const firstId = state.messageIds.value[0] ?? null;
  const projectId = state.project.value?.id;
  const waiting = state.outbox.value.length;

  const toBottom = () => {
    reader.current.sticks = true;
    scroller.current.scrollTop = scroller.current.scrollHeight;
    setAtBottom(true);
  };
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = scroller.current;
    const near = scrollHeight - scrollTop - clientHeight < BOTTOM_PX;
    if (near) reader.current.sticks = true;
    else if (scrollTop < reader.current.lastTop) reader.current.sticks = false;
    reader.current.lastTop = scrollTop;
    setAtBottom(near || reader.current.sticks);
    if (scrollTop < TOP_PX && !reader.current.sticks) loadOlder();
  };

  useLayoutEffect(() => {
    const element = scroller.current; // the last callback may come after it is gone from the page
    const observer = new ResizeObserver(() => {
      if (reader.current.sticks) element.scrollTop = element.scrollHeight;
    });
    observer.observe(list.current);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(toBottom, [projectId, waiting > 0]);
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
