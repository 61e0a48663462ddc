"""The three families of errors, each with a `code` and a text that is safe to show.

`Refused`: the caller's fault, nothing changed. `Transient`: try again. `Broken`: ours. Every error that crosses a module
is one of them; a class's docstring is its default message.
"""

from __future__ import annotations

from typing import ClassVar


class ChatrelayError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or type(self).__doc__)

    @property
    def detail(self) -> str:
        return str(self)


class Refused(ChatrelayError):
    """The request was refused."""

    code = "refused"


class Transient(ChatrelayError):
    """Temporarily unavailable; try again."""

    code = "unavailable"


class Broken(ChatrelayError):
    """Something went wrong on the server."""

    code = "internal"


# --- what strangers send ----------------------------------------------------------------------------------------


class InvalidJson(Refused):
    """This is not the JSON that is accepted."""

    code = "invalid_json"


# --- what the store answers -------------------------------------------------------------------------------------


class NotFound(Refused):
    """There is no such thing, or it is not yours."""

    code = "not_found"


class Forbidden(Refused):
    """Your role in this project does not allow that."""

    code = "forbidden"


class Busy(Refused):
    """An assistant message of this project is pending."""

    code = "busy"


class AlreadyFinal(Refused):
    """The message is final."""

    code = "already_final"


class NotFinal(Refused):
    """The message is not final yet."""

    code = "not_final"


class NotBuilt(Refused):
    """The component is not built."""

    code = "not_built"


class TooManyUnfinished(Refused):
    """You have too many unfinished messages."""

    code = "too_many_unfinished"


class QuotaExceeded(Refused):
    """Your tokens for today are used up."""

    code = "quota_exceeded"


class IdempotencyMismatch(Refused):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_key_reused"


class VersionMismatch(Refused):
    """The document has another version."""

    code = "version_mismatch"


class PatchRejected(Refused):
    """The patch does not apply.

    `index` is the failing operation's, or None where the patch as a whole is refused.
    """

    code = "patch_rejected"

    def __init__(self, detail: str, *, index: int | None = None) -> None:
        super().__init__(detail)
        self.index = index


class NothingToUndo(Refused):
    """No change of the document is left to undo."""

    code = "nothing_to_undo"


class NothingToRedo(Refused):
    """Nothing was undone since the document was last changed."""

    code = "nothing_to_redo"


class VersionOutOfReach(Refused):
    """The document has changed too much since that version to be rebuilt."""

    code = "version_out_of_reach"


class LastOwner(Refused):
    """A project keeps at least one owner."""

    code = "last_owner"


class TooManyMembers(Refused):
    """A project has no more members than this one has."""

    code = "too_many_members"


class SchemaViolation(Refused):
    """The document would not fit its schema."""

    code = "schema_violation"

    def __init__(self, detail: str | None = None, *, errors: tuple[tuple[str, str], ...] = ()) -> None:
        """`errors` are (JSON Pointer, message) pairs, without the document's values."""
        super().__init__(detail)
        self.errors = errors


class InvalidSchema(Refused):
    """The schema is not a JSON Schema that can be used here."""

    code = "invalid_schema"


class BatchOver(Refused):
    """The batch is over: it was stopped, or nothing of it waits any more."""

    code = "batch_over"


# --- what a worker meets ----------------------------------------------------------------------------------------


class Fenced(Refused):
    """A newer attempt exists, or the lease went to somebody else."""

    code = "fenced"


class StoreUnavailable(Transient):
    """The database cannot be reached; the outcome is unknown."""

    code = "outcome_unknown"


class NotMigrated(Broken):
    """The database has no tables yet, or stands at another revision: run `chatrelay migrate`."""

    code = "not_migrated"


class LogUnavailable(Transient):
    """The event log cannot be reached."""

    code = "log_unavailable"
