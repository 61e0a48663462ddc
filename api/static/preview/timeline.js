/** Where in time a component is: the frame, the video's measures, and sequences inside one another. */
import { createContext, createElement, forwardRef, useContext, useMemo } from "../vendor/react.js";

/** `{frame, fps, width, height, durationInFrames, id, props}`: the frame that is shown, of the whole composition. */
export const Composition = createContext(null);
/** `{from, durationInFrames}` of the innermost sequence: its first frame, counted from the composition's. */
const Within = createContext(null);

function useComposition() {
  const composition = useContext(Composition);
  if (composition === null) throw new Error("There is no composition here: hooks of remotion need one around them.");
  return composition;
}

/** The frame, counted from the start of the innermost sequence. */
export function useCurrentFrame() {
  return useComposition().frame - (useContext(Within)?.from ?? 0);
}

/** The composition's measures; inside a sequence `durationInFrames` is the sequence's. */
export function useVideoConfig() {
  const { fps, width, height, durationInFrames, id, props } = useComposition();
  const within = useContext(Within);
  const duration = within?.durationInFrames ?? durationInFrames;
  return useMemo(
    () => ({ fps, width, height, durationInFrames: duration, id, props, defaultProps: {} }),
    [fps, width, height, duration, id, props],
  );
}

const FILL = {
  position: "absolute",
  top: 0,
  left: 0,
  right: 0,
  bottom: 0,
  width: "100%",
  height: "100%",
  display: "flex",
  flexDirection: "column",
};

/** A layer as large as what it lies in. */
export const AbsoluteFill = forwardRef(function AbsoluteFill({ style, ...rest }, ref) {
  return createElement("div", { ...rest, ref, style: { ...FILL, ...style } });
});

/**
 * Shows its children from the frame `from` on, for `durationInFrames` frames; inside, time begins at `from`. What lies
 * outside of the sequence around it is cut off.
 */
export const Sequence = forwardRef(function Sequence(
  { from = 0, durationInFrames = Infinity, layout = "absolute-fill", name, style, className, children },
  ref,
) {
  if (layout !== "absolute-fill" && layout !== "none") {
    throw new TypeError(`The layout of <Sequence> must be "absolute-fill" or "none", not ${JSON.stringify(layout)}.`);
  }
  if (typeof from !== "number" || !Number.isFinite(from)) {
    throw new TypeError(`"from" of <Sequence> must be a finite number, not ${from}.`);
  }
  if (typeof durationInFrames !== "number" || !(durationInFrames > 0)) {
    throw new TypeError(`"durationInFrames" of <Sequence> must be a positive number, not ${durationInFrames}.`);
  }
  const composition = useComposition();
  const around = useContext(Within) ?? { from: 0, durationInFrames: composition.durationInFrames };
  const start = around.from + from;
  const duration = Math.max(0, Math.min(durationInFrames, around.durationInFrames - from));
  const here = useMemo(() => ({ from: start, durationInFrames: duration }), [start, duration]);
  if (composition.frame < start || composition.frame >= Math.ceil(start + duration)) return null;
  const inside = createElement(Within.Provider, { value: here }, children);
  if (layout === "none") return inside;
  return createElement(AbsoluteFill, { ref, className, style, "data-sequence": name }, inside);
});
