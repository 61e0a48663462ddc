"""Certificates of an authority of the test's own, and a server's front that speaks TLS where the embedded ones do not.

authority = Authority(tmp_path)
with TlsFront(own_valkey.url, authority.certificate("localhost")) as front:
    event_log.connect(f"rediss://localhost:{front.port}/0?ssl_ca_certs={authority.path}")
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
_PIECE_BYTES: Final = 1 << 16


class Certificate(NamedTuple):
    """Files in PEM."""

    chain: Path
    key: Path


class Authority:
    """`path` is its certificate, for whoever trusts it."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tests: {name}")])
        made = self._build(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def certificate(self, host: str) -> Certificate:
        """For a server of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        made = self._build(subject, key.public_key(), x509.BasicConstraints(ca=False, path_length=None), names)
        found = Certificate(self._directory / f"{host}.pem", self._directory / f"{host}.key")
        found.chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        found.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return found

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        building = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension in extensions:
            building = building.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return building.sign(self._key, hashes.SHA256())


class TlsFront:
    """Ends TLS before the server of `url` and passes the rest on. Postgres asks for TLS in its own way, which it knows."""

    def __init__(self, url: str, certificate: Certificate) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._behind = (parts.hostname, parts.port)
        self._asks_first = parts.scheme.startswith("postgres")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.chain, certificate.key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="TLS front")
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        context = None if self._asks_first else self._context
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self._asks_first:
                assert await reading.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST
                writing.write(b"S")
                await writing.start_tls(self._context)
            behind_reading, behind_writing = await asyncio.open_connection(*self._behind)
            try:
                await asyncio.gather(_pass(reading, behind_writing), _pass(behind_reading, writing))
            finally:
                behind_writing.transport.abort()
        writing.transport.abort()


async def _pass(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
    while piece := await reading.read(_PIECE_BYTES):
        writing.write(piece)
        await writing.drain()
    raise ConnectionResetError  # one end of it is the end of both
