/** A whole video document, or one component, as elements that depend on the frame alone. */
import { createElement as h } from "../vendor/react.js";
import { Boundary } from "./failures.js";
import { Note } from "./note.js";
import { colorOr } from "./paint.js";
import { SCENES } from "./scenes.js";
import { AbsoluteFill, Sequence } from "./timeline.js";

export const FPS = 30;
export const WIDTH = 1280;
export const HEIGHT = 720;
/** How long a component is shown that stands in no scene. */
const ALONE_S = 5;
const MOST_S = 36_000;

/** The length of what is to be shown, in frames: the document's `meta.duration`, or the end of its last scene. */
export function framesOf({ document: value, component }) {
  if (component !== undefined) return ALONE_S * FPS;
  const ends = scenesOf(value).map((scene) => scene.start + scene.duration);
  const length = seconds(value?.meta?.duration) || Math.max(0, ...ends);
  return Math.max(1, Math.round(Math.min(MOST_S, length) * FPS));
}

/** The scenes that can be placed in time, in the order of the document. */
function scenesOf(value) {
  const scenes = Array.isArray(value?.scenes) ? value.scenes : [];
  return scenes.filter((scene) => seconds(scene?.start) !== null && seconds(scene?.duration) > 0);
}

function seconds(number) {
  return typeof number === "number" && Number.isFinite(number) && number >= 0 ? number : null;
}

/** The component that is previewed alone. */
export function ComponentAlone({ id, components, onError }) {
  return h(AbsoluteFill, { style: { background: "#0f172a" } }, h(Built, { id, props: {}, components, onError }));
}

/** The scenes that are seen at `frame`, later ones above, each with its transition to the next. */
export function Video({ document: value, frame, components, onError }) {
  const scenes = scenesOf(value);
  const next = followers(scenes);
  const entering = new Map(); // scene -> the scene that it takes over from
  for (const [from, to] of next) {
    if (from.transitionToNext && Math.abs(to.start - (from.start + from.duration)) < 1 / FPS) entering.set(to, from);
  }
  const layers = scenes.map((scene, index) => {
    const start = Math.round(scene.start * FPS);
    const length = Math.max(1, Math.round(scene.duration * FPS));
    const over = transition(scene);
    const hasFollower = [...entering.values()].includes(scene);
    // a scene that another takes over from stays below it, at its last frame, until the transition is over
    const stays = hasFollower ? over.frames : 0;
    if (frame < start || frame >= start + length + stays) return null;
    let style = {};
    if (entering.has(scene)) {
      const { type, frames } = transition(entering.get(scene));
      style = entrance(type, (frame - start) / frames);
    }
    if (frame >= start + length) style = { ...style, ...exitBelow(over.type, (frame - start - length) / over.frames) };
    else if (!hasFollower && over.frames > 0 && frame >= start + length - over.frames) {
      style = { ...style, ...exit(over.type, (frame - (start + length - over.frames)) / over.frames) };
    }
    const held = frame >= start + length ? frame - length + 1 : start; // shifts the scene's time so that it stands still
    return h(
      AbsoluteFill,
      { key: scene.id ?? index, style, "data-scene": scene.id, "data-type": scene.type },
      h(Sequence, { from: held, durationInFrames: length }, h(Scene, { scene, components, onError })),
    );
  });
  const background = colorOr(value?.meta?.backgroundColor, "#000000");
  return h(AbsoluteFill, { style: { background } }, layers);
}

/** Pairs of a scene and the one that begins after it. */
function followers(scenes) {
  const inTime = [...scenes].sort((a, b) => a.start - b.start);
  return inTime.slice(1).map((scene, index) => [inTime[index], scene]);
}

function transition(scene) {
  const { type = "none", duration = 0 } = scene.transitionToNext ?? {};
  const frames = type === "none" ? 0 : Math.round((seconds(duration) ?? 0) * FPS);
  return { type, frames };
}

function entrance(type, progress) {
  if (!(progress < 1)) return {};
  switch (type) {
    case "fade":
      return { opacity: progress };
    case "slide":
      return { transform: `translateX(${(1 - progress) * 100}%)` };
    case "wipe":
      return { clipPath: `inset(0 ${(1 - progress) * 100}% 0 0)` };
    case "zoom":
      return { opacity: progress, transform: `scale(${1.4 - 0.4 * progress})` };
    default:
      return {};
  }
}

/** What is taken over from: it lies below, and slides out where the other one slides in. */
function exitBelow(type, progress) {
  return type === "slide" ? { transform: `translateX(${-progress * 100}%)` } : {};
}

/** Where nothing follows at once: to the background. */
function exit(type, progress) {
  switch (type) {
    case "slide":
      return { transform: `translateX(${-progress * 100}%)` };
    case "wipe":
      return { clipPath: `inset(0 0 0 ${progress * 100}%)` };
    case "zoom":
      return { opacity: 1 - progress, transform: `scale(${1 + 0.4 * progress})` };
    default:
      return { opacity: 1 - progress };
  }
}

function Scene({ scene, components, onError }) {
  const data = typeof scene.data === "object" && scene.data !== null ? scene.data : {};
  if (scene.type === "custom") {
    return h(Built, { id: data.componentId, props: data.props, components, onError });
  }
  const Kind = SCENES[scene.type];
  if (!Kind) return h(Note, { title: `${scene.type}`, text: "There is no such type of scene." });
  const name = `The scene ${scene.id ?? scene.type}`;
  return h(Boundary, { name, onError: (error) => onError(name, error) }, h(Kind, { data, seed: `${scene.id}` }));
}

/** A component that was built, by its job's id; a placeholder where it is not there. */
function Built({ id, props, components, onError }) {
  const key = `${id}`.toLowerCase();
  const built = components.get(key);
  if (!built) return h(Note, { title: `${id}`, text: "This component is not built, or not of this project." });
  const { name, Component } = built;
  if (Component === null) return h(Note, { title: name, text: "This component could not be loaded." });
  const given = typeof props === "object" && props !== null ? props : {};
  return h(Boundary, { key, name, onError: (error) => onError(name, error) }, h(Component, given));
}
