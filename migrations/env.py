"""Runs the migrations. The address is given by the caller's config, or is `DATABASE_URL`.

Each migration waits for a lock for at most 5 s and for a statement for at most 60 s, rather than stall the product behind it.
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import create_engine, text

from shared.engine import sqlalchemy_url
from shared.models import Base


def run() -> None:
    url = context.config.attributes.get("url") or os.environ["DATABASE_URL"]
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.connect() as connection:
            connection.execute(text("SET lock_timeout = '5s'"))
            connection.execute(text("SET statement_timeout = '60s'"))
            # two releases at once: the second waits for the first, then finds nothing to do
            connection.execute(text("SELECT pg_advisory_lock(7238405921)"))
            connection.commit()
            context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


run()
