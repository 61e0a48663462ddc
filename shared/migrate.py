"""Brings a database to the newest revision: what the release process runs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from shared.errors import StoreUnavailable

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def config(url: str) -> Config:
    """Alembic's configuration for the database at `url`."""
    made = Config()
    made.set_main_option("script_location", str(_MIGRATIONS))
    made.set_main_option("path_separator", "os")
    made.attributes["url"] = url
    return made


def upgrade(url: str, revision: str = "head") -> None:
    """Raises `StoreUnavailable` where the database cannot be reached."""
    try:
        command.upgrade(config(url), revision)
    except OperationalError as error:
        raise StoreUnavailable from error


def downgrade(url: str, revision: str = "base") -> None:
    command.downgrade(config(url), revision)


def is_current(engine: Engine) -> bool:
    """Whether the database stands at the newest revision that this code knows. Raises `StoreUnavailable`."""
    newest = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() == newest
    except SQLAlchemyError as error:
        raise StoreUnavailable from error
