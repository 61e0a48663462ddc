"""What logs of answers take of Redis's memory, and what their expiry gives back.

python -m benchmarks logs              a hundred thousand answers of ordinary length, in an embedded Valkey

Appended by the log's script, as a worker does it; all of an answer at once, for what an append costs is measured elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID, uuid5

import msgspec
import redis
import typer
from rich.console import Console

from benchmarks.report import write_between
from dev.embedded import EmbeddedValkey
from shared import event_log, events, keys
from shared.event_log import Entry, EventLog
from shared.events import EventId, Usage
from shared.lifecycle import MessageStatus

BEGIN: Final = "<!-- written by `python -m benchmarks logs` -->"
_DELTAS: Final = 150
"""Of an answer of some six hundred characters: a token each."""
_TEXT: Final = " the"
_NAMES: Final = UUID(int=20261126)
_RETENTION_S: Final = 3_600
_EXPIRES_WITHIN_S: Final = 600.0
_LOOK_S: Final = 0.05


class Logs(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    began_at: str
    logs: int
    events_each: int
    text_bytes: int
    """UTF-8 bytes of an answer's text."""
    bytes_a_log: float
    bytes_an_event: float
    payload_bytes: float
    """Of an event's JSON, on average."""
    resident_bytes: int
    """Of the server's process, with all of them."""
    expiry_s: float
    """From the moment at which all of them expire to the last one's going."""
    slowest_ping_ms: float
    """Meanwhile."""
    left_bytes: int
    """That are used after it, more than before the first log."""


def logs(
    count: Annotated[int, typer.Option("--logs", min=100)] = 100_000,
    page: Annotated[Path | None, typer.Option(help="Write what came out into this page.", dir_okay=False)] = None,
    json: Annotated[Path | None, typer.Option(help="Write what came out to this file.", dir_okay=False)] = None,
) -> None:
    """Append so many finished answers' logs, look at the memory, and let them expire at once."""
    found = measured(count)
    written = markdown(found)
    Console().print(written, markup=False)
    if page is not None:
        write_between(page, BEGIN, written)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def measured(count: int) -> Logs:
    began_at = datetime.now(UTC).isoformat(timespec="seconds")
    with EmbeddedValkey.start() as valkey:
        client = event_log.connect(valkey.url, timeout_s=60.0)
        try:
            # its file would take as much of the disk; memory is what is measured
            client.config_set("appendonly", "no")
            log = EventLog(client, retention_s=_RETENTION_S)
            _append(log, 0)  # the script is loaded, and the client's buffers are there
            client.delete(keys.log(_message(0)))
            before = _used(client)
            for number in range(1, count + 1):
                _append(log, number)
            used, resident = _used(client) - before, int(client.info("memory")["used_memory_rss"])
            expiry_s, slowest_ms = _expire(client, count)
            return Logs(
                began_at=began_at,
                logs=count,
                events_each=len(_ANSWER),
                text_bytes=_DELTAS * len(_TEXT),
                bytes_a_log=used / count,
                bytes_an_event=used / count / len(_ANSWER),
                payload_bytes=sum(len(entry.payload) for entry in _ANSWER) / len(_ANSWER),
                resident_bytes=resident,
                expiry_s=expiry_s,
                slowest_ping_ms=slowest_ms,
                left_bytes=_used(client) - before,
            )
        finally:
            client.close()


def _message(number: int) -> UUID:
    return uuid5(_NAMES, str(number))


def _append(log: EventLog, number: int) -> None:
    message_id = _message(number)
    own = str(message_id).encode()
    answer = log.append(message_id, [Entry(one.id, one.payload.replace(_PATTERN, own)) for one in _ANSWER])
    assert answer.word == "ok", answer


def _answer(message_id: UUID) -> Iterator[Entry]:
    """The events of an answer without tools, from `thinking` to its end."""
    told = str(message_id)
    whole = _TEXT * _DELTAS
    ts = time.time_ns() // 1_000_000
    usage = Usage(prompt_tokens=900, completion_tokens=_DELTAS, total_tokens=900 + _DELTAS)
    made: list[events.StreamEvent] = [events.Status(id="1-0", message_id=told, ts=ts, status="thinking")]
    made += [events.Delta(id=f"1-{n}", message_id=told, ts=ts + 25 * n, content=_TEXT) for n in range(1, _DELTAS + 1)]
    made.append(events.Complete(id=f"1-{_DELTAS + 1}", message_id=told, ts=ts, final_content=whole))
    made.append(
        events.Finalized(id=f"1-{_DELTAS + 2}", message_id=told, ts=ts, status=MessageStatus.SUCCESS.value, usage=usage)
    )
    for event in made:
        yield Entry(EventId.parse(event.id), events.encode(event))


_ANSWER: Final = tuple(_answer(_message(0)))
_PATTERN: Final = str(_message(0)).encode()


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _expire(client: redis.Redis, count: int) -> tuple[float, float]:
    """Seconds until all that expire at one moment are gone, and the longest wait for a `PING` meanwhile, in ms."""
    moment_ms = int(time.time() * 1000) + max(2_000, count // 10)
    pipeline = client.pipeline(transaction=False)
    for number in range(1, count + 1):
        pipeline.pexpireat(keys.log(_message(number)), moment_ms)
        if number % 1_000 == 0 or number == count:
            pipeline.execute()
    time.sleep(max(0.0, moment_ms / 1000 - time.time()))
    began_s, slowest_s = time.monotonic(), 0.0
    while client.dbsize():
        asked_s = time.monotonic()
        client.ping()
        slowest_s = max(slowest_s, time.monotonic() - asked_s)
        if asked_s - began_s > _EXPIRES_WITHIN_S:
            raise TimeoutError(f"{client.dbsize()} logs are there {_EXPIRES_WITHIN_S:g} s after they expired")
        time.sleep(_LOOK_S)
    return time.monotonic() - began_s, 1000 * slowest_s


def markdown(found: Logs) -> str:
    return "\n".join(
        [
            f"{found.began_at[:10]}, {found.logs:,} finished answers of {found.text_bytes} characters, "
            f"{found.events_each} events each:",
            "",
            "| what | how much |",
            "| --- | ---: |",
            f"| memory a log | {found.bytes_a_log / 1e3:,.1f} KB |",
            f"| memory an event, whose JSON has {found.payload_bytes:.0f} bytes on average | "
            f"{found.bytes_an_event:,.0f} bytes |",
            f"| all of them, as the server counts | {found.bytes_a_log * found.logs / 1e9:,.2f} GB |",
            f"| the server's process then | {found.resident_bytes / 1e9:,.2f} GB |",
            f"| all expire at one moment: until the last is gone | {found.expiry_s:,.1f} s |",
            f"| the longest that another command waited meanwhile | {found.slowest_ping_ms:,.0f} ms |",
            f"| memory that is not given back | {max(0, found.left_bytes) / 1e6:,.1f} MB |",
            "",
        ]
    )
