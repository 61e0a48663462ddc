"""A way to the server on which connections that carry a stream of events are cut after so many bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tests.fault_proxy import FaultProxies, Link, Manner, down, through, up

_STREAM_REQUEST: Final = up(
    re.compile(
        rb"GET \S*/(?:socket|events|stream|trpc|chat\.streamResponse|responses/\S+)[? ]|POST /v1/ai/chat/[^/? ]+[? ]"
    )
)


class CutStreams:
    """Cuts the first streams: number i after `cuts[i]` bytes of its answer, the head included. `made` counts."""

    def __init__(self, link: Link, target: str, cuts: Sequence[int], manner: Manner) -> None:
        self.url = through(link, target)
        self.made = 0
        self._link = link
        self._cuts = iter(cuts)
        self._manner: Manner = manner
        self._set_next()

    def _set_next(self) -> None:
        if (count := next(self._cuts, None)) is not None:
            self._link.cut(_STREAM_REQUEST, down(count), manner=self._manner, then=self._struck)

    def _struck(self) -> None:
        self.made += 1
        self._set_next()


@contextmanager
def cut_streams(target: str, cuts: Sequence[int], *, manner: Manner = "rst") -> Iterator[CutStreams]:
    """All else, and the streams behind the last cut, pass untouched."""
    with FaultProxies() as proxies:
        yield CutStreams(proxies.link(target), target, cuts, manner)
