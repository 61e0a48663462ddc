/**
 * The page's side of a preview's frame: it loads it, tells it what to show, and watches it. What runs in there is not trusted: only
 * messages of this very frame are heard, they are read as data, and a frame that falls silent or floods is noticed.
 */

const PING_MS = 1000;
/** Silence after which the frame counts as hanging; the first time longer, since it is loaded then. */
const SILENT_MS = 4000;
const LOAD_MS = 10_000;
/** Messages a second: a frame that plays sends one for each frame that it draws. */
const MOST_MESSAGES = 300;
const MOST_ERRORS = 20;
const MOST_CHARACTERS = 600;

const NOTHING = { phase: "loading", frame: 0, duration: 1, fps: 30, isPlaying: false, errors: [], components: [], detail: null };

export class PreviewFrame {
  /**
   * `holder` is the element that the frame is put into. `address()` answers a fresh address of it. `onChange` gets what is known:
   * `{phase, frame, duration, fps, isPlaying, errors: [{name, text}], components, detail}`; the phase is one of loading, ready, silent
   * (it does not answer), stopped (by the reader, or because it misbehaved) and failed (it could not be loaded), where `detail` says why.
   */
  constructor(holder, { label, address, onChange }) {
    this.holder = holder;
    this.label = label;
    this.address = address;
    this.onChange = onChange;
    this.known = NOTHING;
    this.element = null;
    this.content = null;
    this.wish = { frame: 0, play: false, loop: false };
    this.round = 0;
    this.lastFocused = document.activeElement;
    this.ending = new AbortController();
    const { signal } = this.ending;
    addEventListener("message", (event) => this.onMessage(event), { signal });
    addEventListener("blur", () => this.onBlur(), { signal });
    document.addEventListener("visibilitychange", () => this.onVisibility(), { signal });
    document.addEventListener("focusin", (event) => this.onFocus(event), { signal });
    this.timer = setInterval(() => this.watch(), PING_MS);
  }

  /** Loads the frame anew; it goes on where it was. */
  async load() {
    this.take();
    this.round += 1;
    const { round } = this;
    this.change({ ...NOTHING, frame: this.known.frame, duration: this.known.duration });
    let address;
    try {
      address = await this.address();
    } catch (error) {
      if (round === this.round) this.change({ phase: "failed", detail: error.message });
      return;
    }
    if (round !== this.round || this.ending.signal.aborted) return;
    const element = document.createElement("iframe");
    element.setAttribute("sandbox", "allow-scripts");
    element.title = this.label;
    element.inert = true; // it is to be looked at: no click, no key and no focus of the reader's goes into it
    element.src = address;
    this.element = element;
    this.heard = { atMs: performance.now(), waitMs: LOAD_MS, sinceMs: 0, count: 0 };
    this.holder.append(element);
  }

  /** Shows `{document}` or `{component}`. */
  show(content) {
    this.content = content;
    this.tell({ type: "show", ...content });
  }

  seek(frame) {
    this.wish.frame = frame;
    this.tell({ type: "seek", frame });
    this.change({ frame });
  }

  play(loop) {
    if (this.known.frame >= this.known.duration - 1) this.seek(0);
    this.wish = { ...this.wish, play: true, loop };
    this.tell({ type: "play", loop });
  }

  pause() {
    this.wish.play = false;
    if (this.known.isPlaying) this.tell({ type: "pause" });
  }

  /** Ends what runs in the frame, by taking the frame away. */
  stop(detail) {
    this.take();
    this.round += 1;
    this.wish.play = false;
    this.change({ phase: "stopped", isPlaying: false, detail });
  }

  /** Takes everything back; no further callback. */
  close() {
    this.onChange = () => {};
    this.ending.abort();
    clearInterval(this.timer);
    this.round += 1;
    this.take();
  }

  take() {
    this.element?.remove();
    this.element = null;
  }

  tell(message) {
    if (this.known.phase === "ready" || this.known.phase === "silent" || message.type === "ping") {
      this.element?.contentWindow?.postMessage(message, "*"); // its origin is opaque: it has no name
    }
  }

  change(fields) {
    this.known = { ...this.known, ...fields };
    this.onChange(this.known);
  }

  onMessage(event) {
    if (this.element === null || event.source !== this.element.contentWindow || event.origin !== "null") return;
    const { heard } = this;
    const nowMs = performance.now();
    heard.atMs = nowMs;
    heard.waitMs = SILENT_MS;
    if (nowMs - heard.sinceMs > 1000) Object.assign(heard, { sinceMs: nowMs, count: 0 });
    heard.count += 1;
    if (heard.count > MOST_MESSAGES) this.stop("It sent more messages than a preview needs, so it was stopped.");
    else this.hear(event.data);
  }

  hear(message) {
    if (typeof message !== "object" || message === null) return;
    if (this.known.phase === "silent") this.change({ phase: "ready", detail: null });
    switch (message.type) {
      case "ready":
        this.onReady(message.components);
        break;
      case "shown":
        if (isCount(message.durationInFrames) && isCount(message.fps)) {
          this.change({ duration: message.durationInFrames, fps: message.fps });
        }
        break;
      case "at":
        if (Number.isInteger(message.frame) && message.frame >= 0) {
          this.wish.frame = message.frame;
          this.wish.play = message.playing === true;
          this.change({ frame: message.frame, isPlaying: message.playing === true });
        }
        break;
      case "error":
        this.onError(`${message.name}`, `${message.text}`);
    }
  }

  onReady(components) {
    if (this.known.phase !== "loading") return;
    const { frame, play, loop } = this.wish;
    this.change({ phase: "ready", components: Array.isArray(components) ? components.filter((id) => typeof id === "string") : [] });
    if (this.content) this.show(this.content);
    if (frame > 0) this.seek(frame);
    if (play) this.play(loop);
  }

  onError(name, text) {
    if (this.known.errors.length >= MOST_ERRORS) return;
    const error = { name: name.slice(0, MOST_CHARACTERS), text: text.slice(0, MOST_CHARACTERS) };
    this.change({ errors: [...this.known.errors, error] });
  }

  watch() {
    if (this.element === null || document.visibilityState !== "visible") return;
    const silentMs = performance.now() - this.heard.atMs;
    if (silentMs > this.heard.waitMs && this.known.phase !== "silent") {
      this.change({ phase: "silent", isPlaying: false, detail: "A component may be caught in a loop, or have left the frame." });
    }
    this.tell({ type: "ping", n: 0 });
  }

  /** Timers rest while the page is hidden: silence counts from its return. */
  onVisibility() {
    if (document.visibilityState !== "visible") this.pause();
    else if (this.element) this.heard.atMs = performance.now();
  }

  onFocus({ target }) {
    if (target !== this.element) this.lastFocused = target;
  }

  /** Nothing but a program can put the focus into the frame, where it would hear what the reader writes. */
  onBlur() {
    if (this.element === null || document.activeElement !== this.element) return;
    this.stop("It took the keyboard for itself, so it was stopped.");
    this.lastFocused?.focus?.();
  }
}

function isCount(number) {
  return Number.isFinite(number) && number > 0 && number <= 10_000_000;
}
