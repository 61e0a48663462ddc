"""Lists come in pages: `limit` and `before` in, items and the next page's `before` out."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar
from uuid import UUID

import msgspec

T = TypeVar("T")

Limit = Annotated[int, msgspec.Meta(ge=1, le=200)]


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    limit: Limit = 50
    before: UUID | None = None
    """The `nextCursor` of the page before."""


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True, rename="camel"):
    """`nextCursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None
