"""`chatrelay`: the command line. Each command that is more than a call has a module of its own beside this one."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import Annotated

import typer

from ops import audit, doctor, prune, reprocess, stats, tail, tokens
from ops.surroundings import database_errors, database_url
from shared import logs, migrate

app = typer.Typer(
    name="chatrelay",
    help="Durable streaming for AI assistants.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(tokens.app, name="token")
app.command(name="reprocess")(reprocess.reprocess)
app.command(name="tail")(tail.tail)
app.command(name="audit")(audit.audit)
app.command(name="doctor")(doctor.doctor)
app.command(name="prune")(prune.prune)
app.command(name="stats")(stats.stats)


def main() -> None:
    """The console script."""
    logs.configure_by(os.environ, "cli")
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("chatrelay"))
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Durable streaming for AI assistants."""


@app.command()
def dev(
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what the last run kept.")] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The page's port.", show_default=False)] = None,
) -> None:
    """Run everything on this machine, with a Postgres, a Valkey and, without a key, a model of its own."""
    from dev import run

    raise typer.Exit(run.dev(fresh=fresh, port=port))


@app.command(name="migrate")
def migrate_database() -> None:
    """Bring the database at DATABASE_URL to the newest revision."""
    url = database_url(os.environ)
    with database_errors():
        migrate.upgrade(url)


if __name__ == "__main__":
    main()
