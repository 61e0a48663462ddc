/** What a component finds under the name `remotion`: our own, a small part of it, in Remotion's terms. */
export { interpolate, spring } from "./animation.js";
export { AbsoluteFill, Sequence, useCurrentFrame, useVideoConfig } from "./timeline.js";
