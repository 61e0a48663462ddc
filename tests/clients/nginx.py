"""nginx as docs/deployment.md has it, on free ports and with a certificate of the test's own."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from dev.child import Child, Command
from dev.embedded import free_port
from dev.procfile import ROOT
from tests.people import eventually
from tests.tls import Authority

_FILES: Final = ROOT / "ops" / "deploy"
_SERVERS: Final = """\
    server 127.0.0.1:8001 max_fails=1 fail_timeout=2s;
    server 127.0.0.1:8002 max_fails=1 fail_timeout=2s;
"""
_MAIN: Final = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/chatrelay.conf;
}}
"""


class Nginx:
    """`servers` are the lines of the upstream. `changes`: what stands in nginx.conf, and what is to stand there."""

    def __init__(self, directory: Path, servers: Sequence[str], changes: Sequence[tuple[str, str]] = ()) -> None:
        self._directory = directory
        self._authority = Authority(directory)
        self._port, self._plain_port = free_port(), free_port()
        (directory / "tls").mkdir()
        certificate = self._authority.certificate("localhost")
        certificate.chain.rename(directory / "tls" / "fullchain.pem")
        certificate.key.rename(directory / "tls" / "privkey.pem")
        self._write(
            "upstream.conf", "upstream.conf", [(_SERVERS, "".join(f"    server {line};\n" for line in servers))]
        )
        self._write(
            "nginx.conf",
            "chatrelay.conf",
            [
                ("/etc/nginx/chatrelay", str(directory)),
                ("/var/log/nginx", str(directory)),
                ("listen 80 ", f"listen 127.0.0.1:{self._plain_port} "),
                ("listen 443 ", f"listen 127.0.0.1:{self._port} "),
                *changes,
            ],
        )
        self._main = directory / "nginx.conf"
        self._main.write_text(_MAIN.format(directory=directory))
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self._port}"

    @property
    def plain_url(self) -> str:
        return f"http://localhost:{self._plain_port}"

    @property
    def authority(self) -> Path:
        """The certificate to trust."""
        return self._authority.path

    @property
    def log(self) -> str:
        """One line a request that has ended."""
        return (self._directory / "access.log").read_text()

    @property
    def everything_logged(self) -> str:
        """In any log, and said on its outputs."""
        assert self._child is not None
        return "\n".join([self._child.output, *(log.read_text() for log in self._directory.glob("*.log"))])

    def client(self, token: str | None = None, *, source: str | None = None) -> httpx.Client:
        """`source`: the loopback address that it comes from. Its owner closes it."""
        verify = ssl.create_default_context(cafile=str(self.authority))
        return httpx.Client(
            base_url=self.url,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            transport=httpx.HTTPTransport(verify=verify, local_address=source, trust_env=False),
            timeout=30,
        )

    def __enter__(self) -> Self:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "these tests need nginx: apt-get install nginx"
        self._child = Child("nginx", Command(argv=[program, "-p", str(self._directory), "-c", str(self._main)]))
        eventually(self._serves)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        self._child.stop()

    def _write(self, name: str, to: str, changes: Sequence[tuple[str, str]]) -> None:
        text = (_FILES / name).read_text("utf-8")
        for old, new in changes:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new)
        (self._directory / to).write_text(text)

    def _serves(self) -> bool:
        assert self._child is not None
        assert self._child.returncode is None, self._child.output
        try:
            return httpx.get(self.plain_url, trust_env=False).status_code == 301
        except httpx.TransportError:
            return False
