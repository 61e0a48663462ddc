"""Reading the identity provider's JWK Set: one request, bounded in time and size, which is sent nowhere else."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

import aiohttp

from api.provider_keys import WAIT_S, KeysAway

MOST_BYTES: Final = 256 * 1024
TIMEOUT_S: Final = WAIT_S - 1.0
"""For all of it; a resolver that hangs holds up this thread for longer, and nobody who waits for it."""


def fetch(url: str) -> bytes:
    """The document at `url`. Follows no redirect, unpacks nothing, asks no proxy. Raises `KeysAway`."""
    try:
        return asyncio.run(_fetched(url))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise KeysAway("the provider did not answer as it should") from error


async def _fetched(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
    trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context())  # aiohttp's own is of when it was imported
    async with (
        aiohttp.ClientSession(
            connector=trusting, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session,
        session.get(url, headers=headers, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise KeysAway(f"the provider answered {response.status}")
        document = bytearray()
        async for part in response.content.iter_chunked(16_384):
            document += part
            if len(document) > MOST_BYTES:
                raise KeysAway("the provider's key set is too large")
        return bytes(document)
