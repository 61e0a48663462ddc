import { useEffect, useRef, useState } from "../../vendor/preact-hooks.js";
import { frameAddress } from "../actions/jobs.js";
import { html } from "../html.js";
import { PreviewFrame } from "../preview_frame.js";

const START = { phase: "loading", frame: 0, duration: 1, fps: 30, isPlaying: false, errors: [], components: [], detail: null };

/**
 * Plays what a preview's frame at `path` shows: `content`, `{document}` or `{component}`. Another `edition` loads the frame
 * anew. `onKnown` is told what is known of it. It begins to play by itself, unless the reader wants less motion.
 */
export function Player({ path, content, label, edition = "", onKnown = () => {} }) {
  const player = useRef(null);
  const stage = useRef(null);
  const preview = useRef(null);
  const [known, setKnown] = useState(START);
  const [loops, setLoops] = useState(false);

  useEffect(() => {
    const frame = new PreviewFrame(stage.current, {
      label,
      address: () => frameAddress(path),
      onChange: (next) => {
        setKnown(next);
        onKnown(next);
      },
    });
    frame.wish.play = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    preview.current = frame;
    const seen = new IntersectionObserver(([entry]) => entry.isIntersecting || frame.pause());
    seen.observe(stage.current);
    return () => {
      seen.disconnect();
      frame.close();
    };
  }, [path]);
  useEffect(() => {
    preview.current.content = content;
    preview.current.load();
  }, [path, edition]);
  useEffect(() => {
    preview.current.show(content);
  }, [content]);

  const isThere = known.phase === "ready";
  const toggle = () => (known.isPlaying ? preview.current.pause() : preview.current.play(loops));
  const toggleLoop = () => {
    setLoops(!loops);
    if (known.isPlaying) preview.current.play(!loops);
  };
  const onKeyDown = (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    if (isThere) toggle();
  };
  const fullscreen = () => (document.fullscreenElement ? document.exitFullscreen() : player.current.requestFullscreen());

  return html`
    <div class="player" ref=${player} role="group" aria-label=${label} data-phase=${known.phase} data-frame=${known.frame}>
      <div class="stage" ref=${stage}></div>
      ${!isThere && html`<p class="stage-note quiet">${NOTES[known.phase]}</p>`}
      <div class="player-bar">
        <button type="button" class="small play" onClick=${toggle} disabled=${!isThere}>
          ${known.isPlaying ? "Pause" : "Play"}
        </button>
        <input
          type="range"
          aria-label="Frame"
          min="0"
          max=${known.duration - 1}
          step="1"
          value=${known.frame}
          disabled=${!isThere}
          aria-valuetext=${`frame ${known.frame} of ${known.duration}, ${(known.frame / known.fps).toFixed(1)} seconds`}
          onInput=${(event) => preview.current.seek(Number(event.currentTarget.value))}
          onKeyDown=${onKeyDown}
        />
        <span class="player-time" aria-hidden="true">${clock(known.frame / known.fps)} / ${clock(known.duration / known.fps)}</span>
      </div>
      <div class="player-buttons">
        <button type="button" class="link" aria-pressed=${loops} onClick=${toggleLoop}>Loop${loops ? ": on" : ""}</button>
        <button type="button" class="link" onClick=${() => preview.current.load()}>Reload</button>
        ${document.fullscreenEnabled && html`<button type="button" class="link" onClick=${fullscreen}>Full screen</button>`}
        <span class="player-frame quiet" aria-hidden="true">frame ${known.frame}</span>
      </div>
      <${Trouble} known=${known} preview=${preview} />
    </div>
  `;
}

const NOTES = {
  loading: "Loading the preview…",
  silent: "The preview does not answer.",
  stopped: "Stopped.",
  failed: "The preview could not be loaded.",
};

/** What is wrong with the preview, in words, and what can be done about it. */
function Trouble({ known, preview }) {
  const { phase, errors, detail } = known;
  const isStuck = phase === "silent" || phase === "stopped" || phase === "failed";
  if (!isStuck && errors.length === 0) return null;
  return html`
    <div class="failure player-trouble" role="alert">
      ${isStuck && html`<p dir="auto"><strong>${NOTES[phase]}</strong> ${detail}</p>`}
      ${errors.map(({ name, text }) => html`<p dir="auto"><strong>${name}:</strong> ${text}</p>`)}
      ${isStuck &&
      html`<p class="failure-actions">
        <button type="button" class="small" onClick=${() => preview.current.load()}>Load it again</button>
        ${phase === "silent" &&
        html`<button type="button" class="small" onClick=${() => preview.current.stop(null)}>Stop it</button>`}
      </p>`}
    </div>
  `;
}

function clock(seconds) {
  const tenths = Math.floor(seconds * 10 + 1e-6);
  const whole = Math.floor(tenths / 10);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}.${tenths % 10}`;
}
