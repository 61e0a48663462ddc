"""The tests' side of the scripted model: starts it, tells it what to answer, waits for what it saw.

Every wait is a long poll that the server answers when the thing happens, and raises TimeoutError when it did not.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import httpx

_PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]
_LEASH: Final = _PROJECT_ROOT / "dev" / "leash.py"
_STOP_WITHIN_S: Final = 5.0
_ANSWER_WITHIN_S: Final = 10.0


class ControlRefused(Exception):
    """The server refused what was asked of it, as a script that isn't one; the text says why."""


class ScriptedModel:
    """A client of one running scripted model; requests are numbered from 0 since the last reset."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=_ANSWER_WITHIN_S, trust_env=False)

    @property
    def base_url(self) -> str:
        """What `OPENAI_BASE_URL` is to be."""
        return f"{self.url}/v1"

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on(self, match: str, script: Mapping[str, Any], *, times: int | None = None) -> None:
        """Answers requests whose newest user message contains `match` by the script, `times` requests long.

        The newest registration that matches wins. Raises ControlRefused when the script is wrong.
        """
        self._call("POST", "/control/scripts", json={"match": match, "script": dict(script), "times": times})

    def say(self, match: str, *steps: Mapping[str, Any], times: int | None = None) -> None:
        """`on` with a script of one round of these steps."""
        self.on(match, {"rounds": [{"steps": [dict(step) for step in steps]}]}, times=times)

    def requests(self) -> list[dict[str, Any]]:
        """What was received since the last reset, in order (the newest 1,000), and what became of each."""
        items: list[dict[str, Any]] = self._call("GET", "/control/requests").json()["items"]
        return items

    def wait_requests(self, count: int, *, timeout_s: float = 10.0) -> None:
        """Waits until so many requests came."""
        self._wait(timeout_s, requests=count)

    def wait_chunks(self, number: int, count: int, *, timeout_s: float = 10.0) -> None:
        """Waits until so many chunks that bear content were sent in answer to request `number`."""
        self._wait(timeout_s, request=number, chunks_sent=count)

    def wait_disconnected(self, number: int, *, timeout_s: float = 10.0) -> None:
        """Waits until the client of request `number` has closed its connection before the answer's end."""
        self._wait(timeout_s, disconnected=number)

    def wait_ended(self, number: int, *, timeout_s: float = 10.0) -> None:
        """Waits until request `number` is over, in whatever way."""
        self._wait(timeout_s, ended=number)

    def wait_held(self, name: str, *, timeout_s: float = 10.0) -> None:
        """Waits until a stream has come to a hold of that name."""
        self._wait(timeout_s, held=name)

    def release(self, name: str) -> None:
        """Lets go what is held under the name, and what will be, until the next reset."""
        self._call("POST", "/control/release", json={"name": name})

    def remove_scripts(self) -> None:
        self._call("DELETE", "/control/scripts")

    def reset(self) -> None:
        """Forgets scripts, requests and releases; numbers begin at 0 again."""
        self._call("POST", "/control/reset")

    def is_ready(self) -> bool:
        try:
            return self._http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def _wait(self, timeout_s: float, **condition: str | int) -> None:
        response = self._http.get(
            "/control/wait", params={**condition, "timeout": timeout_s}, timeout=timeout_s + _ANSWER_WITHIN_S
        )
        if response.status_code == 504:
            raise TimeoutError(f"waited {timeout_s} s for {condition}: {response.text}")
        _check(response)

    def _call(self, method: str, path: str, *, json: object = None) -> httpx.Response:
        return _check(self._http.request(method, path, json=json))


def _check(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        raise ControlRefused(f"{response.status_code}: {response.text}")
    return response


@contextmanager
def running(*, pace: str = "human", port: int = 0, log: IO[bytes] | None = None) -> Iterator[ScriptedModel]:
    """A scripted model in a process of its own, ready when it is given out, stopped at the end, dead with its starter.

    Port 0 takes a free one. `log` gets its one line a request (default: nowhere).
    """
    command = [sys.executable, "-m", "dev.scripted_model", "--port", str(port), "--pace", pace]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LEASH), *command],
        cwd=_PROJECT_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if log is None else log,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        if not address:
            raise ControlRefused(f"the scripted model ended at its start with code {process.wait()}")
        with ScriptedModel(address) as model:
            if not model.is_ready():
                raise ControlRefused(f"the scripted model at {address} doesn't answer")
            yield model
    finally:
        process.terminate()
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
