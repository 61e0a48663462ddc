"""What a delta costs in all, beside two servers for agents that are in use: Agno's and LangGraph's.

Each answers the request itself with Server-Sent Events, one for each delta of the model, from one process. Agno's keeps
nothing here; LangGraph's has its in-memory runtime, which is the one that needs no licence and no network. Streams are so
few that both keep up.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.programs.program import Program
from benchmarks.references.installing import HERE, python_of
from benchmarks.references.running import running
from benchmarks.results import Measure
from benchmarks.row import Bench, Row, Sides
from benchmarks.rows.relay import ROOMY, TEXT, socket_paths, socket_server
from benchmarks.rows.whole_path import measured
from benchmarks.rows.worker import ended
from dev.embedded import free_port
from tests.people import Person, eventually

_PER_S: Final = (20.0, 20.0)
_AGNO: Final[dict[str, Any]] = {
    "path": "/agents/bench/runs",
    "body": "message=Say+something&stream=true",
    "content_type": "application/x-www-form-urlencoded",
}
_QUESTION: Final = {"messages": [{"role": "user", "content": "Say something"}]}
_LANGGRAPH: Final[dict[str, Any]] = {
    "path": "/runs/stream",
    "body": msgspec.json.encode(
        {"assistant_id": "bench", "input": _QUESTION, "stream_mode": ["messages-tuple"]}
    ).decode(),
    "content_type": "application/json",
}


@contextmanager
def _agno(model_url: str, port: int, streams: int) -> Iterator[int]:
    options = ["--log-level", "warning", "--port", str(port)]
    with running(
        "agno",
        [str(python_of("agno_os")), "-m", "uvicorn", *options, "app:app"],
        cwd=HERE / "agno_os",
        environment={"OPENAI_BASE_URL": model_url, "AGNO_TELEMETRY": "false"},
        health_url=f"http://127.0.0.1:{port}/health",
    ) as pid:
        yield pid


@contextmanager
def _langgraph(model_url: str, port: int, streams: int) -> Iterator[int]:
    python = python_of("langgraph_server")
    with tempfile.TemporaryDirectory(prefix="langgraph-") as directory:
        for name in ("graph.py", "langgraph.json"):  # it keeps files beside them
            shutil.copy(HERE / "langgraph_server" / name, Path(directory) / name)
        options = ["--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port)]
        with running(
            "langgraph",
            [str(python.parent / "langgraph"), "dev", *options, "--n-jobs-per-worker", str(streams + 10)],
            cwd=Path(directory),
            environment={
                "OPENAI_BASE_URL": model_url,
                "LANGSMITH_TRACING": "false",
                "LANGGRAPH_CLI_NO_ANALYTICS": "1",
                "LOG_LEVEL": "WARNING",
            },
            health_url=f"http://127.0.0.1:{port}/ok",
        ) as pid:
            yield pid


@contextmanager
def _beside(server: Any, asked: dict[str, Any], bench: Bench) -> Iterator[Sides]:
    streams, window_s = bench.size(30, 3), bench.size(3, 1)
    with ExitStack() as exits:
        models = [exits.enter_context(Program("model")) for _ in range(2)]
        urls = [f"http://127.0.0.1:{model.ask('serve')}/v1" for model in models]
        for model in models:
            model.ask("set", per_s=_PER_S, is_open=False)
        readers, others = (exits.enter_context(Program("readers")) for _ in range(2))

        stack = bench.stacks(
            webs=1, workers=1, own_postgres=True, own_valkey=True, settings={**ROOMY, "OPENAI_BASE_URL": urls[0]}
        )
        assert stack.valkey is not None
        person = exits.enter_context(Person(stack))
        messages = [person.submit(person.project(), "Say something") for _ in range(streams)]
        readers.ask("open", **socket_server(stack, person.token), wanted=socket_paths(messages, 1))
        eventually(lambda: models[0].ask("counts")["streams"] == streams)
        parts = {"API": stack.pid("web-1"), "worker": stack.pid("worker-1"), "Redis": stack.valkey.pid}

        port = free_port()
        pid = exits.enter_context(server(urls[1], port, streams))
        question = {"body": asked["body"], "content_type": asked["content_type"]}
        others.ask("open", kind="sse", host="127.0.0.1", port=port, wanted=[[asked["path"], streams]], **question)
        eventually(lambda: models[1].ask("counts")["streams"] == streams)

        ours = measured(models[0], readers, parts, {}, window_s)
        reference = measured(models[1], others, {"server": pid}, {}, window_s)
        ours()
        reference()
        yield Sides(ours=ours, reference=reference)

        told, deltas = others.ask("counts")["events"], models[1].ask("counts")["deltas"]
        assert told >= deltas, f"the reference told of {told} events for {deltas} deltas"
        models[0].ask("finish")
        rows = [ended(person, message_id) for message_id in messages]
        written = sum(len(row["content"]) for row in rows)
        assert written == len(TEXT) * models[0].ask("counts")["deltas"], "rows hold another text than the model wrote"


_MEASURES: Final = (Measure(name="CPU per delta", unit="µs", goal=0.6),)
_WHAT: Final = "total CPU per delta, API + worker + Redis, 30 streams of 20 tokens/s with a reader each"

AGNO: Final = Row(
    name="agno",
    what=_WHAT,
    reference="Agno's AgentOS without a database, one process",
    measures=_MEASURES,
    open=lambda bench: _beside(_agno, _AGNO, bench),
)
LANGGRAPH: Final = Row(
    name="langgraph",
    what=_WHAT,
    reference="LangGraph's server (langgraph dev, in memory), one process",
    measures=_MEASURES,
    open=lambda bench: _beside(_langgraph, _LANGGRAPH, bench),
)
