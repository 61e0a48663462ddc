"""Requests for a Remotion component, and the TSX that answers the builder's. Pure.

The TSX imports from `react` and `remotion` only, and of the latter only `AbsoluteFill`, `useCurrentFrame`,
`useVideoConfig`, `interpolate`, `spring` and `Sequence`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dev.scripted_model import phrases

_REQUEST = re.compile(
    r"^(?:.*?\b)?(?:build|create|make|write|generate|design|animate|develop|code|add|give me|i want|i need|"
    r"i'd like)\b\s+(?:me\s+|us\s+)?"
    r"(?P<what>.*\b(?:component|animation|effect)s?\b.*)$",
    re.IGNORECASE | re.DOTALL,
)
_FILLER: Final = frozenset(
    {
        "a",
        "an",
        "the",
        "me",
        "us",
        "of",
        "with",
        "for",
        "that",
        "which",
        "and",
        "or",
        "in",
        "on",
        "to",
        "remotion",
        "react",
        "custom",
        "new",
        "nice",
        "cool",
        "simple",
        "small",
        "some",
        "please",
        "is",
        "it",
        "component",
        "components",
        "animation",
        "animations",
        "effect",
        "effects",
        "broken",
        "hopelessly",
        "called",
        "named",
    }
)
_MOST_DESCRIPTION_CHARACTERS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentRequest:
    description: str
    name: str


def component_request(text: str) -> ComponentRequest | None:
    """The component that a message asks to be built; None when it asks for none, or for a scene of the document."""
    found = _REQUEST.match(text.strip())
    if found is None or re.search(r"\b(?:scene|transition)s?\b", text, re.IGNORECASE):
        return None
    if re.match(r"\s*(?:how|what|why|when|explain|describe)\b", text, re.IGNORECASE):
        return None
    description = re.sub(r"^(?:an?|the|some)\s+", "", found["what"].strip().rstrip(".!?"), flags=re.IGNORECASE)
    named = re.search(r"\b(?:called|named)\s+[\"'“`]?(?P<name>[A-Za-z]\w*)", description)
    return ComponentRequest(
        description=description[:_MOST_DESCRIPTION_CHARACTERS],
        name=named["name"] if named is not None else _name_for(description),
    )


def _name_for(description: str) -> str:
    words = [word for word in re.findall(r"[A-Za-z]+", description) if word.lower() not in _FILLER][:3]
    return "".join(word[:1].upper() + word[1:].lower() for word in words)[:40] or "Effect"


_PLACEMENT = re.compile(
    r"^\W*(?:please\s+|now\s+|ok(?:ay)?\W+)*(?:add|place|put|insert|use|show)\s+"
    r"(?:(?:it|that|this)\b|(?:the|my|our)\s+(?:(?P<name>[\w ]+?)\s+)?component\b)",
    re.IGNORECASE,
)


def placement(text: str, built: Sequence[tuple[str, str]]) -> str | None:
    """The request to place a built component, by its id, where the message asks for one; `built` are (id, name), newest
    first. None where it asks for none, or for one that was not built.
    """
    found = _PLACEMENT.match(text)
    if found is None or not built:
        return None
    name = found["name"]
    if name is None:
        return f"add a custom scene that shows {built[0][0]}"
    wanted = name.replace(" ", "").lower()
    named = next((component for component, known in built if known.lower() == wanted), None)
    return None if named is None else f"add a custom scene that shows {named}"


def component_answer(request: str, *, repairs: int = 0) -> str:
    """One code fence of TSX for what the builder's request describes.

    Where that is to be broken, the first one has a mistake, and those that follow the builder's complaints (`repairs`, so
    many) have not; where it is to be hopelessly broken, all have.
    """
    description = request.lower()
    body = next((body for words, body in _BODIES if re.search(rf"\b(?:{words})", description)), _TITLE)
    named = re.search(r"\b(?:name|called|named)\b[\"'`:\s]+(?P<name>[A-Z]\w{0,63})", request)
    colors = phrases.colors(request)
    words_shown = phrases.first_quoted(request) or "Hello"
    source = (
        body.replace("__NAME__", named["name"] if named is not None else "GeneratedComponent")
        .replace("__COLOR__", colors[0] if colors else "#38bdf8")
        .replace("__TEXT__", json.dumps(words_shown))
    )
    if re.search(r"\bhopelessly broken\b", description) or (repairs == 0 and re.search(r"\bbroken\b", description)):
        source = source.replace("</AbsoluteFill>", "</AbsoluteFull>")
    return f"```tsx\n{source.strip()}\n```\n"


_BALL: Final = """
import React from "react";
import { AbsoluteFill, interpolate, useCurrentFrame, useVideoConfig } from "remotion";

export default function __NAME__() {
  const frame = useCurrentFrame();
  const { fps, height } = useVideoConfig();
  const size = height * 0.16;
  const phase = (frame % fps) / fps;
  const lift = 1 - Math.pow(2 * phase - 1, 2);
  const squash = interpolate(lift, [0, 0.15], [0.75, 1], { extrapolateRight: "clamp" });
  return (
    <AbsoluteFill style={{ backgroundColor: "#0f172a", alignItems: "center", justifyContent: "flex-end" }}>
      <div
        style={{
          width: size,
          height: size,
          marginBottom: height * 0.1,
          borderRadius: "50%",
          backgroundColor: "__COLOR__",
          transform: `translateY(${-lift * height * 0.55}px) scale(${2 - squash}, ${squash})`,
        }}
      />
    </AbsoluteFill>
  );
}
"""

_SPINNER: Final = """
import React from "react";
import { AbsoluteFill, interpolate, spring, useCurrentFrame, useVideoConfig } from "remotion";

export default function __NAME__() {
  const frame = useCurrentFrame();
  const { fps, height } = useVideoConfig();
  const scale = spring({ frame, fps, config: { damping: 12 } });
  const turn = interpolate(frame, [0, fps * 2], [0, 360]);
  const size = height * 0.3;
  return (
    <AbsoluteFill style={{ backgroundColor: "#0f172a", alignItems: "center", justifyContent: "center" }}>
      <div
        style={{
          width: size,
          height: size,
          borderRadius: size * 0.12,
          backgroundColor: "__COLOR__",
          transform: `scale(${scale}) rotate(${turn}deg)`,
        }}
      />
    </AbsoluteFill>
  );
}
"""

_CONFETTI: Final = """
import React from "react";
import { AbsoluteFill, useCurrentFrame, useVideoConfig } from "remotion";

const COLORS = ["__COLOR__", "#facc15", "#f97316", "#22c55e", "#ec4899"];
const PIECES = Array.from({ length: 80 }, (_, index) => ({
  x: (index * 61.8) % 100,
  delay: (index * 37) % 60,
  speed: 0.6 + ((index * 13) % 10) / 12,
  size: 8 + ((index * 7) % 10),
  color: COLORS[index % COLORS.length],
}));

export default function __NAME__() {
  const frame = useCurrentFrame();
  const { height } = useVideoConfig();
  return (
    <AbsoluteFill style={{ backgroundColor: "#0f172a", overflow: "hidden" }}>
      {PIECES.map((piece, index) => {
        const fallen = ((frame + piece.delay) * piece.speed * height) / 90;
        return (
          <div
            key={index}
            style={{
              position: "absolute",
              left: `${piece.x}%`,
              top: (fallen % (height * 1.1)) - height * 0.05,
              width: piece.size,
              height: piece.size * 0.6,
              backgroundColor: piece.color,
              transform: `rotate(${(frame + piece.delay) * 6}deg)`,
            }}
          />
        );
      })}
    </AbsoluteFill>
  );
}
"""

_TYPEWRITER: Final = """
import React from "react";
import { AbsoluteFill, useCurrentFrame, useVideoConfig } from "remotion";

const TEXT = __TEXT__;

export default function __NAME__() {
  const frame = useCurrentFrame();
  const { fps, height } = useVideoConfig();
  const shown = Math.min(TEXT.length, Math.floor((frame / fps) * 12));
  const cursor = Math.floor(frame / (fps / 2)) % 2 === 0 ? "|" : " ";
  return (
    <AbsoluteFill style={{ backgroundColor: "#0f172a", alignItems: "center", justifyContent: "center" }}>
      <div style={{ color: "__COLOR__", fontFamily: "monospace", fontSize: height * 0.09, whiteSpace: "pre" }}>
        {TEXT.slice(0, shown)}
        {cursor}
      </div>
    </AbsoluteFill>
  );
}
"""

_TITLE: Final = """
import React from "react";
import { AbsoluteFill, Sequence, interpolate, spring, useCurrentFrame, useVideoConfig } from "remotion";

const TEXT = __TEXT__;

const Title: React.FC = () => {
  const frame = useCurrentFrame();
  const { fps, height } = useVideoConfig();
  const rise = spring({ frame, fps, config: { damping: 14 } });
  const opacity = interpolate(frame, [0, fps / 2], [0, 1], { extrapolateRight: "clamp" });
  return (
    <div
      style={{
        color: "__COLOR__",
        fontFamily: "sans-serif",
        fontWeight: 700,
        fontSize: height * 0.12,
        opacity,
        transform: `translateY(${(1 - rise) * height * 0.1}px)`,
      }}
    >
      {TEXT}
    </div>
  );
};

export default function __NAME__() {
  return (
    <AbsoluteFill style={{ backgroundColor: "#0f172a" }}>
      <Sequence from={5}>
        <AbsoluteFill style={{ alignItems: "center", justifyContent: "center" }}>
          <Title />
        </AbsoluteFill>
      </Sequence>
    </AbsoluteFill>
  );
}
"""

_COUNTDOWN: Final = """
import React from "react";
import { AbsoluteFill, interpolate, useCurrentFrame, useVideoConfig } from "remotion";

export default function __NAME__() {
  const frame = useCurrentFrame();
  const { fps, height, durationInFrames } = useVideoConfig();
  const left = Math.ceil((durationInFrames - frame) / fps);
  const scale = interpolate(frame % fps, [0, fps], [1, 0.7]);
  return (
    <AbsoluteFill style={{ backgroundColor: "#0f172a", alignItems: "center", justifyContent: "center" }}>
      <div style={{ color: "__COLOR__", fontFamily: "sans-serif", fontSize: height * 0.4, transform: `scale(${scale})` }}>
        {left}
      </div>
    </AbsoluteFill>
  );
}
"""

_BODIES: Final = (
    (r"count ?down|counter", _COUNTDOWN),
    (r"ball|bounc", _BALL),
    (r"confetti|particle|snow|rain|sparkle|firework", _CONFETTI),
    (r"type ?writer|typing", _TYPEWRITER),
    (r"spin|rotat|turn|logo|square|cube", _SPINNER),
)
