"""Brings a database to the newest revision: what the release process runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from shared.engine import sqlalchemy_url
from shared.errors import StoreUnavailable

_log = logging.getLogger(__name__)

_MIGRATIONS: Final = Path(__file__).resolve().parent.parent / "migrations"


def config(url: str) -> Config:
    """Alembic's configuration for the database at `url`."""
    made = Config()
    made.set_main_option("script_location", str(_MIGRATIONS))
    made.set_main_option("path_separator", "os")
    made.attributes["url"] = url
    return made


def upgrade(url: str, revision: str = "head") -> None:
    """Nothing is done to a database that a newer release has migrated: this one works on it, see `is_current`.

    Raises `StoreUnavailable` where the database cannot be reached.
    """
    try:
        command.upgrade(config(url), revision)
    except OperationalError as error:
        raise StoreUnavailable from error
    except CommandError:
        if not _is_ahead(url):
            raise
        _log.warning("the database stands at a revision of a newer release; nothing to do")


def _is_ahead(url: str) -> bool:
    engine = create_engine(sqlalchemy_url(url))
    try:
        return _revision(engine) not in {None, *_known()}
    finally:
        engine.dispose()


def downgrade(url: str, revision: str = "base") -> None:
    command.downgrade(config(url), revision)


def is_current(engine: Engine) -> bool:
    """Whether the database has all that this code needs: the newest revision that it knows, or one that it does not know.

    A deploy migrates first, and the processes of the release before go on meanwhile: migrations are made so that they can.
    Raises `StoreUnavailable`.
    """
    newest, *older = _known()
    revision = _revision(engine)
    return revision == newest or revision not in {None, *older}


def _known() -> list[str]:
    """The newest first."""
    return [script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()]


def _revision(engine: Engine) -> str | None:
    """The database's; None before the first migration. Raises `StoreUnavailable`."""
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise StoreUnavailable from error
