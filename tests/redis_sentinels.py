"""A master, a replica and three Sentinels, as they run in production: what is killed is replaced by the other one."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from dev.child import Child, Command
from dev.embedded import EmbeddedValkey, free_port
from tests import rights
from tests.people import eventually

SERVICE: Final = "chatrelay"
_QUORUM: Final = 2
_SENTINELS: Final = 3
_DOWN_AFTER_MS: Final = 500


class Sentinels:
    """`url` is what REDIS_URL takes. `servers` die one at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.servers: list[EmbeddedValkey] = []
        self._children: list[Child] = []
        self._ports: list[int] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return f"sentinel://{hosts}/{SERVICE}/0"

    def master(self) -> EmbeddedValkey:
        """The one that most of the Sentinels name."""
        named = [self._ask(port, "get-master-addr-by-name") for port in self._ports]
        ports = [int(answer[1]) for answer in named]
        port = max(ports, key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def kill_master(self) -> EmbeddedValkey:
        """kill -9; the one that was killed."""
        killed = self.master()
        killed.kill()
        return killed

    def wait_failed_over(self, killed: EmbeddedValkey) -> None:
        """Until every Sentinel names another one than the killed."""
        eventually(lambda: all(self._named(port) not in (None, killed.port) for port in self._ports))

    def __enter__(self) -> Self:
        for _ in range(2):
            self.servers.append(rights.Valkey.start())
        master, replica = self.servers
        with redis.Redis(port=replica.port) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(master.port))
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
        for _ in range(_SENTINELS):
            self._start_sentinel(free_port(), master.port)
        eventually(lambda: all(map(self._knows_all, self._ports)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.stop()
        for server in self.servers:
            server.stop()

    def _start_sentinel(self, port: int, master: int) -> None:
        """Sentinels keep what they learn in their configuration."""
        path = self._directory / f"sentinel-{port}.conf"
        lines = (
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {self._directory}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {master} {_QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
        )
        path.write_text("".join(f"{line}\n" for line in lines))
        binary = self.servers[0].command().argv[0]
        self._children.append(Child(f"sentinel {port}", Command(argv=[binary, str(path), "--sentinel"])))
        self._ports.append(port)

    def _knows_all(self, port: int) -> bool:
        """Whether it sees the replica and the other Sentinels: without them nothing is failed over."""
        state = self._ask(port, "master")
        if state is None:
            return False
        fields = dict(zip(state[::2], state[1::2], strict=True))
        return bool(fields[b"num-slaves"] == b"1" and fields[b"num-other-sentinels"] == b"%d" % (_SENTINELS - 1))

    def _named(self, port: int) -> int | None:
        answer = self._ask(port, "get-master-addr-by-name")
        return None if answer is None else int(answer[1])

    def _ask(self, port: int, what: str) -> Any:
        try:
            with redis.Redis(port=port, socket_timeout=5, protocol=2) as client:
                client.response_callbacks.clear()
                return client.execute_command("SENTINEL", what, SERVICE)
        except redis.ConnectionError:
            return None
