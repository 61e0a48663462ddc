/** Many small things that move: each one's way follows from the scene's id and its number. */
import { createElement as h } from "../vendor/react.js";
import { colorOr, numberOr, seeded } from "./paint.js";
import { useCurrentFrame, useVideoConfig } from "./timeline.js";

const MOST = 2000;
const WAYS = { up: [0, -1], down: [0, 1], left: [-1, 0], right: [1, 0] };
const STAR = "M0 -1 L0.29 -0.4 L0.95 -0.31 L0.48 0.15 L0.59 0.81 L0 0.5 L-0.59 0.81 L-0.48 0.15 L-0.95 -0.31 L-0.29 -0.4 Z";

export function Particles({ data, seed }) {
  const frame = useCurrentFrame();
  const { fps, width, height } = useVideoConfig();
  const chance = seeded(seed);
  const colors = Array.isArray(data.colors) && data.colors.length ? data.colors : ["#ffffff"];
  const count = Math.min(MOST, Math.max(0, Math.round(numberOr(data.count, 50))));
  const seconds = (frame / fps) * numberOr(data.speed, 1);
  const items = Array.from({ length: count }, (_, index) => {
    const [x0, y0, pace, turn] = [chance(), chance(), 0.5 + chance(), chance()];
    const size = numberOr(data.size, 8) * (0.6 + 0.8 * chance());
    const { x, y } = at({ x0, y0, pace, turn, seconds, width, height, direction: data.direction });
    const fill = colorOr(colors[index % colors.length], "#ffffff");
    return h(Item, { key: index, shape: data.shape, fill, transform: `translate(${x} ${y}) rotate(${turn * 360 + seconds * 90 * pace}) scale(${size})` });
  });
  return h("svg", { viewBox: `0 0 ${width} ${height}`, style: { position: "absolute", inset: 0, width: "100%", height: "100%" } }, items);
}

function at({ x0, y0, pace, turn, seconds, width, height, direction }) {
  if (direction === "outward") {
    const distance = ((x0 + (seconds * pace) / 3) % 1) * Math.hypot(width, height) * 0.55;
    return { x: width / 2 + Math.cos(turn * 2 * Math.PI) * distance, y: height / 2 + Math.sin(turn * 2 * Math.PI) * distance };
  }
  const [dx, dy] = WAYS[direction] ?? [Math.cos(turn * 2 * Math.PI), Math.sin(turn * 2 * Math.PI)];
  const wrap = (value) => ((value % 1) + 1) % 1;
  const moved = (seconds * pace) / 6;
  return { x: (wrap(x0 + dx * moved) * 1.1 - 0.05) * width, y: (wrap(y0 + dy * moved) * 1.1 - 0.05) * height };
}

function Item({ shape, fill, transform }) {
  switch (shape) {
    case "square":
      return h("rect", { x: -1, y: -1, width: 2, height: 2, fill, transform });
    case "confetti":
      return h("rect", { x: -1, y: -0.5, width: 2, height: 1, fill, transform });
    case "star":
      return h("path", { d: STAR, fill, transform });
    default:
      return h("circle", { r: 1, fill, opacity: shape === "snow" ? 0.85 : 1, transform });
  }
}
