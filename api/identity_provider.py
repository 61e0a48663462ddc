"""The identity provider that the settings name: whose JWTs are good beside our own tokens."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from api import identity, jwks_over_http
from api.identity import JwtRefused, Rules
from api.provider_keys import ProviderKeys
from api.refusals import Unauthorized
from shared.records import Identity
from shared.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IdentityProvider:
    """What its JWTs must say, and its keys."""

    rules: Rules
    keys: ProviderKeys

    @staticmethod
    def of(settings: Settings) -> IdentityProvider | None:
        """As the settings name it, None where they name none. Nothing is asked of it yet."""
        rules, url = Rules.of(settings), settings.jwt_jwks_url
        if rules is None or url is None:
            return None
        max_waiting = max(1, settings.api_threads // 2)
        return IdentityProvider(
            rules=rules, keys=ProviderKeys(lambda: jwks_over_http.fetch(url), max_waiting=max_waiting)
        )

    def is_jwt(self, token: str) -> bool:
        """Whether it is for us to look at."""
        return identity.is_jwt(token)

    def identity(self, token: str) -> Identity:
        """Whose JWT it is. Raises `Unauthorized`, and `IdentityUnavailable` where that cannot be known at the moment."""
        try:
            key = self.keys.find(identity.key_id(token))
            return identity.read(token, key, self.rules, time.time())
        except JwtRefused as refused:
            _log.info("a JWT was refused: %s", refused.reason)
            raise Unauthorized from None
