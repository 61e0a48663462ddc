/**
 * The frame's side of the talk with the page around it, which alone is listened to.
 *
 * The page says: `show {document}` or `show {component}` (a job's id), `seek {frame}`, `play {loop}`, `pause`, `ping {n}`.
 * The frame says: `ready {components}` (ids that are there), `shown {durationInFrames, fps}`, `at {frame, playing}`,
 * `error {name, text}`, `pong {n}`. Each is an object with its `type`.
 */
import { createElement as h, createRoot, flushSync } from "../vendor/react.js";
import { wordsOf } from "./failures.js";
import { Composition } from "./timeline.js";
import { ComponentAlone, FPS, framesOf, HEIGHT, Video, WIDTH } from "./video.js";

const MOST_ERRORS = 20;

// taken before a component can put its own in their place
const page = globalThis.parent;
const pageOrigin = new URL(location.href).origin;
const post = page.postMessage.bind(page);
const nextFrame = requestAnimationFrame.bind(globalThis);
const clock = performance.now.bind(performance);

function tell(message) {
  post(message, pageOrigin);
}

export function start() {
  const listed = JSON.parse(document.getElementById("components").textContent);
  const player = new Player(listed);
  addEventListener("message", (event) => {
    if (event.source === page && event.origin === pageOrigin) player.hear(event.data);
  });
  addEventListener("error", (event) => player.fail(player.nameIn(event.error?.stack ?? event.filename), event.error ?? event.message));
  addEventListener("unhandledrejection", (event) => player.fail(player.nameIn(event.reason?.stack), event.reason));
  addEventListener("resize", () => player.fit());
  player.load();
}

class Player {
  constructor(listed) {
    this.listed = listed;
    /** Job id to `{name, Component}`; `Component` is null where it could not be loaded. */
    this.components = new Map();
    this.content = null;
    this.durationInFrames = 1;
    this.frame = 0;
    this.playing = null;
    this.told = new Set();
    this.stage = document.getElementById("stage");
    this.stage.style.width = `${WIDTH}px`;
    this.stage.style.height = `${HEIGHT}px`;
    const ignore = () => {}; // the boundaries tell
    this.root = createRoot(this.stage, {
      onCaughtError: ignore,
      onRecoverableError: ignore,
      onUncaughtError: (error) => this.fail("The preview", error),
    });
    this.fit();
  }

  async load() {
    await Promise.all(
      this.listed.map(async ({ id, name, url }) => {
        try {
          const module = await import(url);
          if (typeof module.default !== "function" && typeof module.default !== "object") {
            throw new Error("The module has no component as its default export.");
          }
          this.components.set(id, { name, Component: module.default });
        } catch (error) {
          this.components.set(id, { name, Component: null });
          this.fail(name, error, "could not be loaded");
        }
      }),
    );
    tell({ type: "ready", components: this.listed.map(({ id }) => id) });
  }

  hear(message) {
    switch (message?.type) {
      case "ping":
        tell({ type: "pong", n: message.n });
        break;
      case "show":
        this.show(message);
        break;
      case "seek":
        this.seek(message.frame);
        break;
      case "play":
        this.play(Boolean(message.loop));
        break;
      case "pause":
        this.pause();
    }
  }

  show({ document: value, component }) {
    this.content = component === undefined ? { document: value } : { component };
    this.durationInFrames = framesOf(this.content);
    this.frame = Math.min(this.frame, this.durationInFrames - 1);
    if (this.playing) this.play(this.playing.loop);
    tell({ type: "shown", durationInFrames: this.durationInFrames, fps: FPS });
    this.draw();
  }

  seek(frame) {
    if (!Number.isFinite(frame)) return;
    this.frame = Math.min(this.durationInFrames - 1, Math.max(0, Math.round(frame)));
    if (this.playing) this.play(this.playing.loop);
    this.draw();
  }

  play(loop) {
    const playing = { loop, sinceMs: clock(), fromFrame: this.frame };
    this.playing = playing;
    const step = () => {
      if (this.playing !== playing) return;
      const frame = playing.fromFrame + Math.floor(((clock() - playing.sinceMs) * FPS) / 1000);
      if (frame >= this.durationInFrames && !loop) {
        this.frame = this.durationInFrames - 1;
        this.playing = null;
      } else this.frame = frame % this.durationInFrames;
      this.draw();
      nextFrame(step);
    };
    nextFrame(step);
  }

  pause() {
    this.playing = null;
    this.draw();
  }

  draw() {
    if (this.content === null) return;
    const composition = {
      frame: this.frame,
      fps: FPS,
      width: WIDTH,
      height: HEIGHT,
      durationInFrames: this.durationInFrames,
      id: "preview",
      props: {},
    };
    const parts = { components: this.components, onError: (name, error) => this.fail(name, error) };
    const { document: value, component } = this.content;
    const shown =
      component === undefined
        ? h(Video, { ...parts, document: value, frame: this.frame })
        : h(ComponentAlone, { ...parts, id: component });
    flushSync(() => this.root.render(h(Composition.Provider, { value: composition }, shown)));
    tell({ type: "at", frame: this.frame, playing: this.playing !== null });
  }

  /** Each different failure is told once, and no more of them than a person can read. */
  fail(name, thrown, what = null) {
    const text = what ? `${what}: ${wordsOf(thrown)}` : wordsOf(thrown);
    const key = `${name}\n${text}`;
    if (this.told.has(key) || this.told.size >= MOST_ERRORS) return;
    this.told.add(key);
    tell({ type: "error", name, text });
  }

  /** The component whose module a stack names. */
  nameIn(stack) {
    const found = this.listed.find(({ id }) => `${stack}`.includes(id));
    return found?.name ?? (this.listed.length === 1 ? this.listed[0].name : "A component");
  }

  fit() {
    const scale = Math.min(innerWidth / WIDTH, innerHeight / HEIGHT);
    this.stage.style.transform = `scale(${scale}) translate(-50%, -50%)`;
  }
}
