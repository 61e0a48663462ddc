"""What is refused before a request reaches the store: errors of HTTP's own."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import Refused, Transient


class Unauthorized(Refused):
    """A valid token is needed."""

    code = "unauthorized"


class IdentityUnavailable(Transient):
    """The identity provider's keys cannot be had at the moment, so that the token cannot be checked."""

    code = "identity_unavailable"


class MissingScope(Refused):
    """The token does not allow this: it needs the scope that the call names."""

    code = "missing_scope"


class ForeignOrigin(Refused):
    """This origin is not allowed."""

    code = "foreign_origin"


class BodyTooLarge(Refused):
    """The body is too large."""

    code = "body_too_large"


class UnsupportedMediaType(Refused):
    """The body's media type is not supported here."""

    code = "unsupported_media_type"


class InvalidHeader(Refused):
    """A header is not valid."""

    code = "invalid_header"


class UpgradeRequired(Refused):
    """This address speaks WebSocket."""

    code = "upgrade_required"


class _Later(Refused):
    def __init__(self, retry_after_s: float, detail: str | None = None) -> None:
        """`retry_after_s`: when it may be tried again."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TooManyRequests(_Later):
    """There are too many requests."""

    code = "too_many_requests"


class TooManyAttempts(_Later):
    """There were too many tokens from this address that are not good."""

    code = "too_many_attempts"


class _Places(Refused):
    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        """`errors` are (JSON Pointer, message) pairs, without the values that were sent."""
        super().__init__()
        self.errors = tuple(errors)


class InvalidFields(_Places):
    """The body's fields are not valid."""

    code = "invalid_fields"


class InvalidQuery(_Places):
    """The query is not valid."""

    code = "invalid_query"
