"""The gate: who asks too often is refused before anything is done, by address, and before a token is looked at.

Requests that monitoring makes are let through: health and metrics. What operators read is not counted, but bad tokens are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from flask import Flask, Response, request

from api import auth, throttle
from api.addresses import Addresses, Client, nearest
from api.calls import Access, Call
from api.rates import Rate, Rates
from api.refusals import TooManyAttempts, TooManyRequests
from shared import metrics
from shared.lifecycle import Scope
from shared.settings import Settings

_MONITORING: Final = frozenset({"healthz", "readyz", "get_metrics"})


def install(app: Flask, settings: Settings, rates: Rates, calls: Iterable[Call]) -> None:
    """To be called before all else that looks at a request."""
    addresses = Addresses(settings.trusted_proxies)
    calls = list(calls)
    in_words = {call.name: call.words for call in calls if call.words is not None}
    operators = {call.name for call in calls if call.scope is Scope.OPS and call.method == "GET"}
    tokenless = {call.name for call in calls if call.access is Access.ANYBODY} | {"static"}

    def refusal_of(client: Client) -> TooManyRequests | TooManyAttempts | None:
        if request.endpoint not in operators and (wait_s := rates.spend(Rate.ADDRESS, client.place)) > 0:
            metrics.REQUESTS_REFUSED.add(Rate.ADDRESS)
            return TooManyRequests(wait_s, "There are too many requests from this address.")
        if request.endpoint in tokenless or not (wait_s := rates.wait_s(Rate.BAD_TOKENS, client.place)):
            return None
        token = auth.bearer_token(request.headers)
        if token is not None and rates.was_good(hashlib.sha256(token.encode()).digest()):
            return None
        metrics.REQUESTS_REFUSED.add(Rate.BAD_TOKENS)
        return TooManyAttempts(wait_s)

    @app.before_request
    def check_address() -> Response | None:
        environ = request.environ
        client = addresses.client(environ.get("REMOTE_ADDR", ""), nearest(environ.get("HTTP_X_FORWARDED_FOR")))
        throttle.remember_client(client)
        refusal = None if client.is_local or request.endpoint in _MONITORING else refusal_of(client)
        if refusal is None:
            return None
        words = in_words.get(request.endpoint or "")
        if words is None:
            raise refusal
        return words.say(refusal)

    @app.after_request
    def count_bad_tokens(response: Response) -> Response:
        if response.status_code == 401:
            throttle.count_bad_token(rates, throttle.client())
        return response
