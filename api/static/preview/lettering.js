/** Text in a scene, at rest and moving. */
import { createElement as h } from "../vendor/react.js";
import { interpolate, spring } from "./animation.js";
import { colorOr, numberOr, placed } from "./paint.js";
import { AbsoluteFill, useCurrentFrame, useVideoConfig } from "./timeline.js";

/** Text as `data` would have it: size, colour, alignment, position. */
export function Lettering({ data, style, children }) {
  const text = {
    fontSize: numberOr(data.fontSize, 64),
    fontFamily: typeof data.fontFamily === "string" ? data.fontFamily : "system-ui, sans-serif",
    fontWeight: numberOr(data.fontWeight, 600),
    lineHeight: 1.2,
    color: colorOr(data.color, "#ffffff"),
    textAlign: data.align ?? "center",
    whiteSpace: "pre-wrap",
    overflowWrap: "anywhere",
    maxWidth: "100%",
    ...(data.align && data.align !== "center" && !data.position && { alignSelf: "stretch" }),
    ...style,
  };
  const layer = { ...placed(data.position), padding: 64, boxSizing: "border-box", background: colorOr(data.backgroundColor, "transparent") };
  return h(AbsoluteFill, { style: layer }, h("div", { dir: "auto", style: text }, children));
}

const CHARACTERS_PER_S = 12;
const CLAMP = { extrapolateLeft: "clamp", extrapolateRight: "clamp" };

/** Text that comes in, in one of the ways that `animation` names; `speed` 2 is twice as fast. */
export function TextAnimation({ data }) {
  const { fps } = useVideoConfig();
  const frame = useCurrentFrame() * numberOr(data.speed, 1);
  const letters = [...`${data.text ?? ""}`];
  switch (data.animation) {
    case "typewriter": {
      const typed = Math.floor((frame / fps) * CHARACTERS_PER_S);
      // what is not typed yet keeps its place, so that nothing moves
      const rest = h("span", { style: { visibility: "hidden" } }, letters.slice(typed).join(""));
      return h(Lettering, { data }, letters.slice(0, typed).join(""), rest);
    }
    case "slide-up": {
      const rise = spring({ frame, fps, config: { damping: 16 } });
      const opacity = interpolate(frame, [0, fps / 3], [0, 1], CLAMP);
      return h(Lettering, { data, style: { opacity, transform: `translateY(${(1 - rise) * 120}px)` } }, data.text);
    }
    case "bounce": {
      const drop = spring({ frame, fps, config: { damping: 7, stiffness: 120 } });
      return h(Lettering, { data, style: { transform: `translateY(${(drop - 1) * 400}px)` } }, data.text);
    }
    case "wave":
      return h(
        Lettering,
        { data },
        letters.map((letter, index) => {
          const lift = Math.sin((frame / fps) * 2 * Math.PI - index * 0.5) * 0.15;
          return h("span", { key: index, style: { display: "inline-block", whiteSpace: "pre", transform: `translateY(${lift}em)` } }, letter);
        }),
      );
    case "scale": {
      const scale = spring({ frame, fps, config: { damping: 11 } });
      return h(Lettering, { data, style: { transform: `scale(${scale})` } }, data.text);
    }
    default:
      return h(Lettering, { data, style: { opacity: interpolate(frame, [0, fps], [0, 1], CLAMP) } }, data.text);
  }
}
