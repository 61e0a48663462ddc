/** The types of scene that a video has of its own, each drawn simply and from the frame alone. */
import { createElement as h } from "../vendor/react.js";
import { interpolate, spring } from "./animation.js";
import { Lettering, TextAnimation } from "./lettering.js";
import { colorOr, numberOr, Picture, placed } from "./paint.js";
import { Particles } from "./particles.js";
import { AbsoluteFill, useCurrentFrame, useVideoConfig } from "./timeline.js";

/** How far the scene is, from 0 to 1. */
function useProgress() {
  const { durationInFrames } = useVideoConfig();
  return Math.min(1, useCurrentFrame() / Math.max(1, durationInFrames - 1));
}

function Text({ data }) {
  return h(Lettering, { data }, data.text);
}

function Image({ data }) {
  const objectPosition = `${data.position ?? "center"}`.replace("-", " ");
  const style = { objectFit: data.fit ?? "contain", objectPosition, opacity: numberOr(data.opacity, 1) };
  return h(Picture, { src: data.src, alt: data.alt, style });
}

function BackgroundColor({ data }) {
  return h(AbsoluteFill, { style: { background: colorOr(data.color, "#000000") } });
}

const STAR = "M50 3 L61 38 L98 38 L68 59 L79 95 L50 73 L21 95 L32 59 L2 38 L39 38 Z";

function Shape({ data }) {
  const [width, height] = [numberOr(data.width, 300), numberOr(data.height, data.shape === "line" ? 8 : 300)];
  const pen = {
    fill: colorOr(data.color, "#ffffff"),
    stroke: colorOr(data.strokeColor, "none"),
    strokeWidth: numberOr(data.strokeWidth, 0),
    vectorEffect: "non-scaling-stroke",
  };
  const style = {
    position: "absolute",
    left: `${numberOr(data.x, 50)}%`,
    top: `${numberOr(data.y, 50)}%`,
    width,
    height,
    overflow: "visible",
    opacity: numberOr(data.opacity, 1),
    transform: `translate(-50%, -50%) rotate(${numberOr(data.rotation, 0)}deg)`,
  };
  const form = {
    circle: () => h("ellipse", { cx: 50, cy: 50, rx: (50 * Math.min(width, height)) / width, ry: (50 * Math.min(width, height)) / height, ...pen }),
    ellipse: () => h("ellipse", { cx: 50, cy: 50, rx: 50, ry: 50, ...pen }),
    triangle: () => h("path", { d: "M50 0 L100 100 L0 100 Z", ...pen }),
    star: () => h("path", { d: STAR, ...pen }),
  }[data.shape];
  const drawn = form ? form() : h("rect", { width: 100, height: 100, ...pen });
  return h("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", style }, drawn);
}

function Gradient({ data }) {
  const progress = useProgress();
  const colors = (Array.isArray(data.colors) ? data.colors : []).map((color) => colorOr(color, null)).filter(Boolean);
  if (colors.length < 2) return h(BackgroundColor, { data: { color: colors[0] } });
  const angle = numberOr(data.angle, 0) + (data.animated ? progress * 360 : 0);
  const backgroundImage = {
    radial: `radial-gradient(circle at ${data.animated ? 50 + 20 * Math.sin(progress * 2 * Math.PI) : 50}% 50%, ${colors})`,
    conic: `conic-gradient(from ${angle}deg, ${colors})`,
  }[data.kind];
  return h(AbsoluteFill, { style: { backgroundImage: backgroundImage ?? `linear-gradient(${angle}deg, ${colors})` } });
}

function SplitScreen({ data }) {
  const ratio = numberOr(data.ratio, 0.5);
  const flexDirection = data.direction === "vertical" ? "column" : "row";
  const half = (pane, share) =>
    h(
      "div",
      { style: { position: "relative", flex: `${share} 1 0`, minWidth: 0, minHeight: 0, overflow: "hidden", background: colorOr(pane?.backgroundColor, "transparent") } },
      pane?.src && h(Picture, { src: pane.src, alt: pane.text, style: { objectFit: "cover" } }),
      pane?.text && h(Lettering, { data: { fontSize: 64, color: pane.color } }, pane.text),
    );
  return h(AbsoluteFill, { style: { flexDirection, gap: numberOr(data.gap, 0) } }, half(data.first, ratio), half(data.second, 1 - ratio));
}

const EASINGS = {
  linear: (t) => t,
  "ease-in": (t) => t * t,
  "ease-out": (t) => 1 - (1 - t) ** 2,
  "ease-in-out": (t) => t * t * (3 - 2 * t),
};

function ZoomPan({ data }) {
  const { fps, durationInFrames } = useVideoConfig();
  const frame = useCurrentFrame();
  const progress = useProgress();
  const springy = data.easing === "spring" && spring({ frame, fps, durationInFrames });
  const at = springy === false ? (EASINGS[data.easing] ?? EASINGS.linear)(progress) : springy;
  const between = (name, otherwise) =>
    interpolate(at, [0, 1], [numberOr(data.from?.[name], otherwise), numberOr(data.to?.[name], otherwise)]);
  const [scale, x, y] = [between("scale", 1), between("x", 50), between("y", 50)];
  const style = { transform: `scale(${scale})`, transformOrigin: `${x}% ${y}%` };
  return h(AbsoluteFill, { style: { overflow: "hidden" } }, h(AbsoluteFill, { style }, h(Picture, { src: data.src, alt: data.alt, style: { objectFit: "cover" } })));
}

function SvgAnimation({ data }) {
  const progress = useProgress();
  const eased = EASINGS["ease-in-out"](Math.min(1, progress * 1.5));
  const style = {
    draw: {},
    fade: { opacity: eased },
    rotate: { transform: `rotate(${progress * 360}deg)` },
    scale: { transform: `scale(${eased})` },
  }[data.animation];
  const shown = Array.isArray(data.paths) ? h(Drawing, { data, eased }) : h(Picture, { src: data.src, style: { objectFit: "contain", ...(data.animation === "draw" && { clipPath: `inset(0 ${(1 - eased) * 100}% 0 0)` }) } });
  return h(AbsoluteFill, { style: { ...placed("center"), ...style } }, shown);
}

function Drawing({ data, eased }) {
  const isDrawn = data.animation === "draw";
  const paths = data.paths.map((path, index) =>
    h("path", {
      key: index,
      d: `${path?.d ?? ""}`,
      pathLength: 1,
      fill: colorOr(path?.fill, "none"),
      fillOpacity: isDrawn ? Math.max(0, eased * 2 - 1) : 1,
      stroke: colorOr(path?.stroke, colorOr(data.color, path?.fill ? "none" : "#ffffff")),
      strokeWidth: numberOr(path?.strokeWidth, 2),
      strokeLinecap: "round",
      strokeLinejoin: "round",
      strokeDasharray: isDrawn ? 1 : undefined,
      strokeDashoffset: isDrawn ? 1 - eased : undefined,
    }),
  );
  return h("svg", { viewBox: data.viewBox ?? "0 0 100 100", style: { width: "70%", height: "70%" } }, paths);
}

export const SCENES = {
  text: Text,
  image: Image,
  "background-color": BackgroundColor,
  shape: Shape,
  gradient: Gradient,
  particles: Particles,
  "text-animation": TextAnimation,
  "split-screen": SplitScreen,
  "zoom-pan": ZoomPan,
  "svg-animation": SvgAnimation,
};
