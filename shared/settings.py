"""Every setting: its name in the environment, unit and default. The README's table is held to this module by a test."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from shared import redis_address

Names = Annotated[tuple[str, ...], NoDecode]
"""Names separated by commas."""
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode]
"""Addresses and networks (``10.0.0.0/8``), separated by commas; ``*`` is every address."""


class InvalidSettings(Exception):
    """What is wrong with the environment: one line a setting."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)

    database_url: SecretStr = Field(
        alias="DATABASE_URL", description="Postgres, `postgresql://user:password@host/name`"
    )
    redis_url: SecretStr = Field(
        alias="REDIS_URL",
        description="Redis or Valkey, `redis://host:port/db` (`rediss://` for TLS), or `sentinel://host,host/service/db`",
    )
    broker_url: SecretStr | None = Field(
        None, alias="CHATRELAY_BROKER_URL", description="the same for the bells, where they have a Redis of their own"
    )
    openai_api_key: SecretStr | None = Field(
        None, alias="OPENAI_API_KEY", description="the provider's key; without one `make run` starts the scripted model"
    )
    openai_base_url: str = Field(
        "https://api.openai.com/v1", alias="OPENAI_BASE_URL", description="any server that speaks chat completions"
    )
    port: int = Field(8000, alias="PORT", ge=1, le=65535, description="the API's port")
    metrics_port: int = Field(
        0,
        alias="CHATRELAY_METRICS_PORT",
        ge=0,
        le=65535,
        description="where a worker, builder or sweeper tells its metrics (docs/metrics.md); 0: nowhere",
    )

    log_format: Literal["json", "text"] | None = Field(
        None,
        alias="CHATRELAY_LOG_FORMAT",
        description="`json` or `text`; unset: text on a terminal and under `chatrelay dev`, else JSON lines",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="CHATRELAY_LOG_LEVEL", description="what is logged: from `DEBUG`, `INFO`, `WARNING` or `ERROR` up"
    )
    traces: bool | None = Field(
        None,
        alias="CHATRELAY_TRACES",
        description="whether spans are exported; unset: where `OTEL_EXPORTER_OTLP_ENDPOINT` is set"
        " (docs/logs-and-traces.md)",
    )

    models: Names = Field(
        ("gpt-4.1-mini",), alias="CHATRELAY_MODELS", description="models that may be asked for, the default first"
    )
    allowed_origins: Names = Field(
        (), alias="CHATRELAY_ALLOWED_ORIGINS", description="browser origins allowed beside the own host"
    )
    jwt_issuer: str | None = Field(
        None,
        alias="CHATRELAY_JWT_ISSUER",
        description="the `iss` of the JWTs that are good beside our own tokens (docs/authentication.md); unset: none is",
    )
    jwt_audience: str | None = Field(None, alias="CHATRELAY_JWT_AUDIENCE", description="what their `aud` must name")
    jwt_jwks_url: str | None = Field(
        None,
        alias="CHATRELAY_JWT_JWKS_URL",
        description="where their provider tells its keys; `https`, but on this machine",
    )
    jwt_user_claim: str = Field("sub", alias="CHATRELAY_JWT_USER_CLAIM", description="the claim that says whose one is")
    jwt_shared_names: bool = Field(
        False,
        alias="CHATRELAY_JWT_SHARED_NAMES",
        description="a JWT is the user of that very name, who may have tokens; unset: the one called `jwt:` and the name",
    )
    jwt_scope_claim: str = Field(
        "scope", alias="CHATRELAY_JWT_SCOPE_CLAIM", description="the claim that lists what a JWT allows"
    )
    jwt_ops_scope: str | None = Field(
        None,
        alias="CHATRELAY_JWT_OPS_SCOPE",
        description="the word in it that stands for the scope `ops`; unset: no JWT has that",
    )
    jwt_max_lifetime_s: float = Field(
        86_400.0,
        alias="CHATRELAY_JWT_MAX_LIFETIME_S",
        gt=0,
        le=31_536_000,
        description="seconds that a JWT may have left; one that is good for longer is refused",
    )
    trusted_proxies: Networks = Field(
        (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        alias="CHATRELAY_TRUSTED_PROXIES",
        description="whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed: addresses and networks",
    )
    trpc_transformer: Literal["superjson"] | None = Field(
        None, alias="CHATRELAY_TRPC_TRANSFORMER", description="`superjson` where tRPC clients are set up with it"
    )
    scripted_model: bool = Field(
        False, alias="CHATRELAY_SCRIPTED_MODEL", description="the page says that the model is the scripted one"
    )
    dev_token: SecretStr | None = Field(
        None, alias="CHATRELAY_DEV_TOKEN", description="the token that `make run` prints"
    )

    lease_s: float = Field(10.0, alias="CHATRELAY_LEASE_S", gt=0, description="seconds that a worker's claim lasts")
    heartbeat_s: float = Field(
        3.0, alias="CHATRELAY_HEARTBEAT_S", gt=0, description="seconds between renewals of the claims"
    )
    sweep_s: float = Field(1.0, alias="CHATRELAY_SWEEP_S", gt=0, description="seconds between the sweeper's rounds")
    ring_again_s: float = Field(
        3.0, alias="CHATRELAY_RING_AGAIN_S", gt=0, description="seconds until a message not taken is rung for again"
    )
    log_retention_s: int = Field(
        3600, alias="CHATRELAY_LOG_RETENTION_S", gt=0, description="seconds that a log outlives its last append"
    )
    merge_window_s: float = Field(
        0.02, alias="CHATRELAY_MERGE_WINDOW_S", ge=0, description="deltas arriving within it are merged into one event"
    )
    drain_s: float = Field(
        20.0, alias="CHATRELAY_DRAIN_S", gt=0, description="seconds a stopping process has to hand over or close"
    )
    deaf_s: float = Field(
        30.0,
        alias="CHATRELAY_DEAF_S",
        gt=0,
        description="seconds that bells wait for a worker with room, which then starts itself again",
    )
    worker_concurrency: int = Field(
        100, alias="CHATRELAY_WORKER_CONCURRENCY", ge=1, description="messages that one worker streams at a time"
    )
    batch_share: float = Field(
        0.5,
        alias="CHATRELAY_BATCH_SHARE",
        gt=0,
        lt=1,
        description="of a worker's messages at a time, the share that batches may take; one is always left to people",
    )
    batch_window: int = Field(
        200, alias="CHATRELAY_BATCH_WINDOW", ge=1, description="messages of batches that are unfinished at a time"
    )
    api_threads: int = Field(16, alias="CHATRELAY_API_THREADS", ge=2, description="request threads of one API process")
    request_head_s: float = Field(
        10.0, alias="CHATRELAY_REQUEST_HEAD_S", gt=0, description="seconds that a request's line and headers may take"
    )
    request_body_s: float = Field(
        30.0, alias="CHATRELAY_REQUEST_BODY_S", gt=0, description="seconds that a request's body may take"
    )
    max_connections: int = Field(
        1000,
        alias="CHATRELAY_MAX_CONNECTIONS",
        ge=32,
        description="connections of one API process beside its sockets; who was waited for longest makes room",
    )
    heartbeat_socket_s: float = Field(
        25.0, alias="CHATRELAY_SOCKET_HEARTBEAT_S", gt=0, description="seconds of silence before a socket is pinged"
    )
    idle_check_s: float = Field(
        2.0, alias="CHATRELAY_IDLE_CHECK_S", gt=0, description="seconds of silence before a reader's log is compared"
    )
    socket_buffer_bytes: int = Field(
        256 * 1024, alias="CHATRELAY_SOCKET_BUFFER_BYTES", gt=0, description="bytes kept for a reader that is slow"
    )
    slow_reader_s: float = Field(
        30.0, alias="CHATRELAY_SLOW_READER_S", gt=0, description="seconds a slow reader has to take what waits (4008)"
    )

    max_rounds: int = Field(
        4, alias="CHATRELAY_MAX_ROUNDS", ge=1, description="times the model is called again with its tools' results"
    )
    max_tries: int = Field(3, alias="CHATRELAY_MAX_TRIES", ge=1, description="tries of one run")
    run_deadline_s: float = Field(
        600.0, alias="CHATRELAY_RUN_DEADLINE_S", gt=0, description="seconds for one run, from its first claim"
    )
    provider_silence_s: float = Field(
        60.0, alias="CHATRELAY_PROVIDER_SILENCE_S", gt=0, description="seconds without a byte from the model"
    )
    provider_connect_s: float = Field(
        10.0, alias="CHATRELAY_PROVIDER_CONNECT_S", gt=0, description="seconds to connect to the model"
    )
    retry_first_s: float = Field(
        0.5, alias="CHATRELAY_RETRY_FIRST_S", ge=0, description="first pause before the provider is asked again"
    )
    retry_most_s: float = Field(
        20.0, alias="CHATRELAY_RETRY_MOST_S", ge=0, description="longest such pause, unless the provider names one"
    )
    context_tokens: int = Field(
        24_000, alias="CHATRELAY_CONTEXT_TOKENS", ge=100, description="tokens of earlier messages shown to the model"
    )
    max_answer_bytes: int = Field(
        1024 * 1024, alias="CHATRELAY_MAX_ANSWER_BYTES", ge=1, description="an answer's UTF-8 bytes (ends as `length`)"
    )
    max_tool_arguments_bytes: int = Field(
        256 * 1024, alias="CHATRELAY_MAX_TOOL_ARGUMENTS_BYTES", ge=1, description="bytes of one tool call's arguments"
    )
    max_tool_calls: int = Field(16, alias="CHATRELAY_MAX_TOOL_CALLS", ge=1, description="tool calls in one round")

    max_body_bytes: int = Field(1024 * 1024, alias="CHATRELAY_MAX_BODY_BYTES", ge=1, description="a request's body")
    max_content_chars: int = Field(
        32_000, alias="CHATRELAY_MAX_CONTENT_CHARS", ge=1, description="characters of a message's `content`"
    )
    max_json_depth: int = Field(64, alias="CHATRELAY_MAX_JSON_DEPTH", ge=1, le=200, description="nesting of any JSON")
    max_patch_operations: int = Field(
        1000, alias="CHATRELAY_MAX_PATCH_OPERATIONS", ge=1, description="operations in a patch over HTTP"
    )
    max_model_patch_operations: int = Field(
        50, alias="CHATRELAY_MAX_MODEL_PATCH_OPERATIONS", ge=1, description="operations in a patch of the model's"
    )
    max_pointer_segments: int = Field(
        16, alias="CHATRELAY_MAX_POINTER_SEGMENTS", ge=1, description="segments of a JSON Pointer in a patch"
    )
    max_document_bytes: int = Field(
        256 * 1024, alias="CHATRELAY_MAX_DOCUMENT_BYTES", ge=2, description="a document's JSON, after each operation"
    )
    max_sockets_per_user: int = Field(
        100, alias="CHATRELAY_MAX_SOCKETS_PER_USER", ge=1, description="open sockets and SSE readers a user and process"
    )
    max_sockets_per_address: int = Field(
        500,
        alias="CHATRELAY_MAX_SOCKETS_PER_ADDRESS",
        ge=0,
        description="the same for an address; 0: no limit. This machine itself has none",
    )
    max_requests_per_user: int = Field(
        3000,
        alias="CHATRELAY_MAX_REQUESTS_PER_USER",
        ge=0,
        description="requests a user and minute (429); 0: no limit. None of this and the next two counts this machine",
    )
    max_requests_per_address: int = Field(
        6000,
        alias="CHATRELAY_MAX_REQUESTS_PER_ADDRESS",
        ge=0,
        description="requests an address (of IPv6 a /64) and minute; 0: no limit",
    )
    max_bad_tokens_per_address: int = Field(
        120,
        alias="CHATRELAY_MAX_BAD_TOKENS_PER_ADDRESS",
        ge=0,
        description="tokens that are not good an address and minute; then only known ones are looked at. 0: no limit",
    )
    max_unfinished_per_user: int = Field(
        20, alias="CHATRELAY_MAX_UNFINISHED_PER_USER", ge=1, description="unfinished messages a user"
    )
    max_members_per_project: int = Field(
        100, alias="CHATRELAY_MAX_MEMBERS_PER_PROJECT", ge=1, description="members of a project, owners included"
    )
    max_frame_bytes: int = Field(
        64 * 1024, alias="CHATRELAY_MAX_FRAME_BYTES", ge=1, description="an inbound socket message (close 1008)"
    )
    max_frames_per_second: int = Field(
        20, alias="CHATRELAY_MAX_FRAMES_PER_SECOND", ge=1, description="inbound socket messages (close 1008)"
    )
    max_tokens_per_day: int | None = Field(
        None, alias="CHATRELAY_MAX_TOKENS_PER_DAY", ge=1, description="tokens a user and day; unset: no limit"
    )

    @field_validator("models", "allowed_origins", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return tuple(name for part in value.split(",") if (name := part.strip())) if isinstance(value, str) else value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = [name for part in value.split(",") if (name := part.strip())]
        return tuple(network for name in names for network in (("0.0.0.0/0", "::/0") if name == "*" else (name,)))

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            is_plain = parts.hostname and not {"*", "@"} & set(parts.netloc) and parts.scheme in ("http", "https")
            if not is_plain or origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError("an origin is https://host or https://host:port, one by one: no path, no *, not null")
        return value

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _redis_addresses(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            redis_address.parse(value.get_secret_value())
        return value

    @field_validator("jwt_jwks_url")
    @classmethod
    def _keys_come_safely(cls, value: str | None) -> str | None:
        if value is not None and not _is_safe_address(value):
            raise ValueError("must be an https address without credentials, or an http one of this machine")
        return value

    @property
    def bells_url(self) -> str:
        """The Redis that bells go through. A secret."""
        return (self.broker_url or self.redis_url).get_secret_value()

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError("CHATRELAY_HEARTBEAT_S must be at most half of CHATRELAY_LEASE_S")
        if self.traces and not _is_installed("opentelemetry.exporter"):
            raise ValueError("CHATRELAY_TRACES needs OpenTelemetry: pip install 'chatrelay[otel]'")
        provider = (self.jwt_issuer, self.jwt_audience, self.jwt_jwks_url)
        if None in provider and any(provider):
            raise ValueError(
                "CHATRELAY_JWT_ISSUER, CHATRELAY_JWT_AUDIENCE and CHATRELAY_JWT_JWKS_URL are set together or not at all"
            )
        if not self.models:
            raise ValueError("CHATRELAY_MODELS must name at least one model")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` was given: reading the environment is its caller's act."""
        return (init_settings,)


def _is_safe_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or re.search(r"[^\x21-\x7e]", url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host))


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def load(environment: Mapping[str, str]) -> Settings:
    """Settings out of `environment`. Raises `InvalidSettings` with every wrong one, without their values."""
    known = {field.alias for field in Settings.model_fields.values() if field.alias}
    unknown = sorted(
        name for name in environment if name.startswith("CHATRELAY_") and name not in known | _READ_ELSEWHERE
    )
    lines = [f"{name}: no such setting" for name in unknown]
    try:
        settings = Settings(**{name: value for name in known if (value := environment.get(name))})  # type: ignore[arg-type]  # pydantic parses the strings
    except ValidationError as error:
        lines += [
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidSettings("\n".join(lines)) from None
    if lines:
        raise InvalidSettings("\n".join(lines))
    return settings


_READ_ELSEWHERE = frozenset({"CHATRELAY_STATE_DIR"})
"""Read by the development stack, not by the processes."""
