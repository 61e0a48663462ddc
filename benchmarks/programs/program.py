"""A running program, as whoever started it has it."""

from __future__ import annotations

import select
import subprocess
import sys
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec

from dev.procfile import ROOT

_ENDS_WITHIN_S: Final = 5.0
_ANSWERS_WITHIN_S: Final = 120.0


class ProgramFailed(Exception):
    """A program ended, or what it was asked for went wrong; the text says how."""


class Asked(Protocol):
    """A running program, or several as one."""

    @property
    def pid(self) -> int: ...

    def ask(self, do: str, /, **request: Any) -> Any: ...


class Program:
    """`with Program("readers") as readers: readers.ask("open", …)`. Its standard error is ours."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._popen: subprocess.Popen[bytes] | None = None

    def ask(self, do: str, /, **request: Any) -> Any:
        """The program's answer. Raises `ProgramFailed`."""
        self.begin(do, **request)
        return self.finish()

    def begin(self, do: str, /, **request: Any) -> None:
        """Ask without waiting: `finish` has the answer."""
        assert self._popen is not None
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(msgspec.json.encode({"do": do, **request}) + b"\n")
            self._popen.stdin.flush()
        except OSError as error:
            raise ProgramFailed(f"the program {self._module} has ended") from error

    def finish(self) -> Any:
        assert self._popen is not None
        assert self._popen.stdout is not None
        if not select.select([self._popen.stdout], [], [], _ANSWERS_WITHIN_S)[0]:
            raise ProgramFailed(f"the program {self._module} has not answered for {_ANSWERS_WITHIN_S:g} s")
        line = self._popen.stdout.readline()
        if not line:
            raise ProgramFailed(f"the program {self._module} ended with {self._popen.wait()}")
        answer = msgspec.json.decode(line)
        if "failed" in answer:
            raise ProgramFailed(f"{self._module}: {answer['failed']}")
        return answer["answer"]

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", f"benchmarks.programs.{self._module}"]
        self._popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._popen is not None
        with self._popen:
            assert self._popen.stdin is not None
            self._popen.stdin.close()
            try:
                self._popen.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
