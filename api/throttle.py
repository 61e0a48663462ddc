"""Who asks, as far as limits go: by address, until a token says which user.

This machine itself, where no proxy says otherwise, is not counted.
"""

from __future__ import annotations

from typing import Final

from flask import has_request_context, request

from api.addresses import LOCAL, Client
from api.auth import Caller
from api.rates import Rate, Rates
from api.refusals import TooManyRequests
from shared import metrics
from shared.settings import Settings

_CLIENT: Final = "chatrelay.client"
"""Where a request's environment has the `Client`."""


def limits(settings: Settings) -> dict[Rate, int]:
    """What the settings allow a minute."""
    return {
        Rate.USER: settings.max_requests_per_user,
        Rate.ADDRESS: settings.max_requests_per_address,
        Rate.BAD_TOKENS: settings.max_bad_tokens_per_address,
    }


def remember_client(client: Client) -> None:
    """It is the present request's."""
    request.environ[_CLIENT] = client


def client() -> Client:
    """Of the present request; outside of one this machine."""
    found = request.environ.get(_CLIENT) if has_request_context() else None
    return found if isinstance(found, Client) else LOCAL


def place() -> str | None:
    """Where the present request's sockets are counted; None where they are not."""
    return client().counted_place


def check_user(rates: Rates, caller: Caller, client: Client) -> None:
    """Count one more request. Raises `TooManyRequests`."""
    if client.is_local:
        return
    rates.remember_good(caller.token_sha256)
    if (wait_s := rates.spend(Rate.USER, caller.user_id.hex)) > 0:
        metrics.REQUESTS_REFUSED.add(Rate.USER)
        raise TooManyRequests(wait_s, "You make too many requests.")


def count_bad_token(rates: Rates, client: Client) -> None:
    if not client.is_local:
        rates.spend(Rate.BAD_TOKENS, client.place)
