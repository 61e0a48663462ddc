import { useLayoutEffect } from "../../vendor/preact-hooks.js";

/**
 * The focus is never lost to the page's end: where what had it goes away from inside `root` at a rendering, `heir` gets it
 * (both are refs; `root` by default).
 */
export function useFocusKept(root, heir = root) {
  const held = root.current?.contains(document.activeElement) && document.activeElement;
  useLayoutEffect(() => {
    if (held && !held.isConnected) heir.current?.focus({ preventScroll: true });
  });
}
