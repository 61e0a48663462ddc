"""What is asked for, who reads it, and what becomes of it: one plan a message, made of the seed and its number alone.

Pure. Every piece of text is the message's own, so that one that is missing, doubled or another's shows in the fold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec

Transport: TypeAlias = Literal["socket", "sse"]
OnBusy: TypeAlias = Literal["queue", "parallel", "reject", "interrupt"]
Step: TypeAlias = dict[str, Any]

DOCUMENT: Final[dict[str, Any]] = {"list": []}
"""What each project begins with. Every edit appends one item, which names the message, the round and the call."""

_ON_BUSY: Final[dict[OnBusy, int]] = {"queue": 6, "parallel": 3, "reject": 1, "interrupt": 1}
_TAIL: Final = ("é", "…", "漢字", "🙂", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReaderPlan:
    """When a reader joins, after the message was acknowledged, and after how many events of a connection it leaves."""

    transport: Transport
    first_web: int
    joins_after_s: float
    leaves_after: tuple[int, ...]
    """Of its first connections; on those after them it stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    number: int
    kind: str
    content: str
    on_busy: OnBusy
    readers: tuple[ReaderPlan, ...]
    cancel_after_s: float | None
    retries: int
    """How often it is retried once it is final."""
    repeats_submit: bool
    """Whether the submit is sent again, with the same key, after it was acknowledged."""
    beside: bool
    """Whether the same person goes on with the next message without waiting for the end of this one."""


class _Writer:
    """Makes the steps of one message's script."""

    def __init__(self, number: int, random_: random.Random, chunks: int) -> None:
        self._number = number
        self._random = random_
        self._chunks = chunks
        self._pieces = 0

    def text(self, share: float = 1.0) -> Step:
        """About `share` of the message's usual number of pieces, each as it was never sent before."""
        count = max(1, round(self._chunks * share * self._random.uniform(0.8, 1.2)))
        words = []
        for _ in range(count):
            self._pieces += 1
            words.append(f"{self._number}.{self._pieces}{self._random.choice(_TAIL)} ")
        return {"text": "".join(words), "chunks": count, "pace": self._random.choice((0.025, 0.035, 0.05))}

    def edit(self, round_: int, index: int = 0) -> Step:
        operation = {"op": "add", "path": "/list/-", "value": f"{self._number}.{round_}.{index}"}
        return {"name": "applyJsonPatch", "arguments": {"operations": [operation]}, "split": 3}

    def bad_edit(self) -> Step:
        operations = self._random.choice(
            (
                [{"op": "remove", "path": "/nothing/here"}],
                [
                    {"op": "add", "path": "/list/-", "value": "refused"},
                    {"op": "test", "path": "/list/0", "value": None},
                ],
                [{"op": "no operation", "path": "/list"}],
            )
        )
        return {"name": "applyJsonPatch", "arguments": {"operations": operations}}

    def bad_json(self) -> Step:
        return {"name": "applyJsonPatch", "arguments": '{"operations": [{"op": "add", '}


def _rounds(*rounds: Any) -> dict[str, Any]:
    return {"rounds": [one if isinstance(one, dict) else {"steps": one} for one in rounds]}


def _attempts(*attempts: Any) -> dict[str, Any]:
    return {"attempts": [one if isinstance(one, dict) else {"steps": one} for one in attempts]}


def _error(status: int, **headers: str) -> dict[str, Any]:
    return {"status": status, **({"headers": headers} if headers else {})}


def _edits(w: _Writer) -> dict[str, Any]:
    return _rounds(
        [w.text(0.3), {"tool": w.edit(1)}],
        [w.text(0.2), {"tools": [w.edit(2), w.edit(2, 1)], "interleave": True}],
        [w.text(0.5)],
    )


def _bad_edits(w: _Writer) -> dict[str, Any]:
    return _rounds(
        [w.text(0.3), {"tools": [w.bad_edit(), w.edit(1, 1)]}],
        [{"tool": w.bad_json()}],
        [w.text(0.2), {"tool": w.edit(3)}],
        [w.text(0.5)],
    )


def _broken_edit(w: _Writer) -> dict[str, Any]:
    """The stream breaks inside the call's arguments, after text; the second answer is whole."""
    cut = {"cut": "rst", "at_byte": 60}
    return _rounds(
        _attempts(
            [w.text(0.3), {"open": True}, cut, {"tool": w.edit(1)}],
            [w.text(0.4), {"tool": w.edit(1)}],
        ),
        [w.text(0.4)],
    )


_KINDS: Final[dict[str, tuple[int, Callable[[_Writer], dict[str, Any]]]]] = {
    "text": (30, lambda w: _rounds([w.text()])),
    "edit": (18, lambda w: _rounds([w.text(0.5), {"tool": w.edit(1)}], [w.text(0.5)])),
    "edits": (9, _edits),
    "silent edit": (3, lambda w: _rounds([{"tool": w.edit(1)}], [])),
    "bad edits": (8, _bad_edits),
    "429": (4, lambda w: _rounds(_attempts(_error(429, **{"Retry-After": "1"}), [w.text()]))),
    "500": (4, lambda w: _rounds(_attempts(_error(500), _error(503), [w.text()]))),
    "cut": (5, lambda w: _rounds(_attempts([w.text(0.5), {"cut": "rst", "at_byte": 40}, w.text(0.1)], [w.text()]))),
    "closed early": (3, lambda w: _rounds(_attempts([w.text(0.4), {"cut": "fin"}], [w.text()]))),
    "no finish": (3, lambda w: _rounds(_attempts([w.text(0.3), {"finish": None}, {"done": False}], [w.text()]))),
    "broken edit": (4, _broken_edit),
    "stall": (2, lambda w: _rounds(_attempts([w.text(0.3), {"stall": True}], [w.text()]))),
    "empty": (3, lambda w: _rounds(_attempts([], [w.text()]))),
    "hopeless": (2, lambda w: _rounds(_attempts(*[_error(500)] * 3, [w.text(0.6)]))),
    "rejected": (2, lambda w: _rounds(_attempts(_error(400), [w.text(0.6)]))),
}
_BUILD: Final = "build"


def make_plan(seed: int, number: int, *, readers: int, chunks: int, webs: int, builds: bool) -> Plan:
    """The plan of message `number`: the same for the same arguments, whatever else happens."""
    random_ = random.Random(f"{seed}-{number}")
    kinds = {name: weight for name, (weight, _) in _KINDS.items()} | ({_BUILD: 2} if builds else {})
    (kind,) = random_.choices(list(kinds), list(kinds.values()))
    if kind == _BUILD:
        call = {"name": "generateRemotionComponent", "arguments": {"effectDescription": f"confetti number {number}"}}
        script = _rounds([_Writer(number, random_, chunks).text(0.5), {"tool": call}])
    else:
        script = _KINDS[kind][1](_Writer(number, random_, chunks))
    (on_busy,) = random_.choices(list(_ON_BUSY), list(_ON_BUSY.values()))
    return Plan(
        number=number,
        kind=kind,
        content=f"message {number}: {kind}\n#script {msgspec.json.encode(script).decode()}",
        on_busy=on_busy,
        readers=tuple(_reader(random_, webs, first=index == 0) for index in range(readers)),
        cancel_after_s=random_.uniform(0.0, 2.0) if random_.random() < 0.08 else None,
        retries=_retries(random_, kind),
        repeats_submit=random_.random() < 0.05,
        beside=random_.random() < 0.3,
    )


def _retries(random_: random.Random, kind: str) -> int:
    if kind in ("hopeless", "rejected"):
        return 1
    return random_.choice((1, 1, 2)) if random_.random() < 0.08 else 0


def _reader(random_: random.Random, webs: int, *, first: bool) -> ReaderPlan:
    """The first one joins at once; of the others some come late, a few after the end."""
    late_s = 0.0 if first else random_.choice((0.0, random_.uniform(0.0, 1.5), random_.uniform(0.0, 4.0)))
    leaving = random_.choices((0, 1, 3), (70, 20, 10))[0]
    return ReaderPlan(
        transport=random_.choice(("socket", "sse")),
        first_web=random_.randrange(webs),
        joins_after_s=late_s,
        leaves_after=tuple(random_.randint(1, 15) for _ in range(leaving)),
    )
