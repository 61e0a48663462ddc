"""Settings: read from an environment that is given, every wrong one told at once, no value echoed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared import settings as settings_module
from shared.settings import InvalidSettings, Settings

_LEAST = {"DATABASE_URL": "postgresql://u:db-canary@h/n", "REDIS_URL": "redis://:redis-canary@h/0"}


def test_two_addresses_are_all_that_must_be_set() -> None:
    settings = settings_module.load(_LEAST)
    assert settings.database_url.get_secret_value() == _LEAST["DATABASE_URL"]
    assert settings.redis_url.get_secret_value() == _LEAST["REDIS_URL"]


def test_the_defaults_are_the_contract_s() -> None:
    settings = settings_module.load(_LEAST)
    assert (settings.lease_s, settings.heartbeat_s, settings.sweep_s) == (10, 3, 1)
    assert settings.log_retention_s == 3600
    assert (settings.max_rounds, settings.max_tries) == (4, 3)
    assert (settings.run_deadline_s, settings.provider_silence_s) == (600, 60)
    assert settings.max_answer_bytes == settings.max_body_bytes == 1024 * 1024
    assert (settings.max_content_chars, settings.max_json_depth) == (32_000, 64)
    assert (settings.max_patch_operations, settings.max_model_patch_operations) == (1000, 50)
    assert (settings.max_pointer_segments, settings.max_document_bytes) == (16, 256 * 1024)
    assert (settings.max_sockets_per_user, settings.max_unfinished_per_user) == (100, 20)
    assert (settings.max_frame_bytes, settings.max_frames_per_second) == (64 * 1024, 20)
    assert settings.max_tokens_per_day is None


def test_a_value_is_read_from_its_name() -> None:
    settings = settings_module.load(
        {**_LEAST, "PORT": "9000", "CHATRELAY_LEASE_S": "2.5", "CHATRELAY_HEARTBEAT_S": "1", "CHATRELAY_MAX_TRIES": "7"}
    )
    assert (settings.port, settings.lease_s, settings.max_tries) == (9000, 2.5, 7)


def test_names_are_separated_by_commas() -> None:
    settings = settings_module.load({**_LEAST, "CHATRELAY_MODELS": " a, b ,,c "})
    assert settings.models == ("a", "b", "c")


def test_proxies_are_addresses_and_networks() -> None:
    settings = settings_module.load({**_LEAST, "CHATRELAY_TRUSTED_PROXIES": "10.0.0.7, 192.168.0.0/16,::1"})
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.7/32", "192.168.0.0/16", "::1/128"]
    everybody = settings_module.load({**_LEAST, "CHATRELAY_TRUSTED_PROXIES": "*"}).trusted_proxies
    assert [str(network) for network in everybody] == ["0.0.0.0/0", "::/0"]
    for wrong in ("localhost", "10.0.0.1/8", "10.0.0.0/40"):
        with pytest.raises(InvalidSettings, match="CHATRELAY_TRUSTED_PROXIES"):
            settings_module.load({**_LEAST, "CHATRELAY_TRUSTED_PROXIES": wrong})


def test_an_allowed_origin_is_one_and_not_everybody_s() -> None:
    """With a wildcard, or the origin of every sandboxed page, the list would say nothing."""
    allowed = "https://app.example,http://localhost:5173,https://[2001:db8::1]:8443"
    assert len(settings_module.load({**_LEAST, "CHATRELAY_ALLOWED_ORIGINS": allowed}).allowed_origins) == 3
    for wrong in ("*", "null", "app.example", "https://*", "https://app.example/", "https://a@app.example", "file://"):
        with pytest.raises(InvalidSettings, match="CHATRELAY_ALLOWED_ORIGINS"):
            settings_module.load({**_LEAST, "CHATRELAY_ALLOWED_ORIGINS": wrong})


def test_an_empty_value_is_as_one_that_is_not_set() -> None:
    settings = settings_module.load({**_LEAST, "PORT": "", "OPENAI_API_KEY": "", "CHATRELAY_MODELS": ""})
    assert settings.port == 8000
    assert settings.openai_api_key is None
    assert settings.models


def test_every_wrong_setting_is_told_at_once_by_its_name() -> None:
    with pytest.raises(InvalidSettings) as invalid:
        settings_module.load(
            {
                "REDIS_URL": "redis://h/0",
                "PORT": "canary-1",
                "CHATRELAY_LEASE_S": "-1",
                "CHATRELAY_MAX_TRIES": "canary-2",
                "CHATRELAY_NO_SUCH": "canary-3",
                "CHATRELAY_LAESE_S": "4",
            }
        )
    lines = str(invalid.value).splitlines()
    names = {line.split(":")[0] for line in lines}
    assert names == {
        "DATABASE_URL",
        "PORT",
        "CHATRELAY_LEASE_S",
        "CHATRELAY_MAX_TRIES",
        "CHATRELAY_NO_SUCH",
        "CHATRELAY_LAESE_S",
    }
    assert "canary" not in str(invalid.value)


def test_settings_that_do_not_fit_together_are_told() -> None:
    with pytest.raises(InvalidSettings, match="at most half of CHATRELAY_LEASE_S"):
        settings_module.load({**_LEAST, "CHATRELAY_LEASE_S": "2"})
    with pytest.raises(InvalidSettings, match="CHATRELAY_MODELS"):
        settings_module.load({**_LEAST, "CHATRELAY_MODELS": ","})


def test_an_identity_provider_is_named_as_a_whole_or_not_at_all() -> None:
    whole = {
        "CHATRELAY_JWT_ISSUER": "https://identity.example/",
        "CHATRELAY_JWT_AUDIENCE": "chatrelay",
        "CHATRELAY_JWT_JWKS_URL": "https://identity.example/keys",
    }
    assert settings_module.load({**_LEAST, **whole}).jwt_issuer == "https://identity.example/"
    for name in whole:
        with pytest.raises(InvalidSettings, match="set together or not at all"):
            settings_module.load({**_LEAST, **whole, name: ""})


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://identity.example/keys?x=1", True),
        ("https://identity.example:8443/keys", True),
        ("http://127.0.0.1:8080/keys", True),
        ("http://[::1]:8080/keys", True),
        ("http://localhost/keys", True),
        ("http://identity.example/keys", False),
        ("http://127.0.0.1.evil.example/keys", False),
        ("http://localhost.evil.example/keys", False),
        ("http://localhost@evil.example/keys", False),
        ("http://10.0.0.1/keys", False),
        ("http://0.0.0.0/keys", False),
        ("https://user:password@identity.example/keys", False),
        ("https://identity.example/keys#x", False),
        ("https://identity.example/ke ys", False),
        ("https://identity.example/keys\n", False),
        ("https://identity.example:99999/keys", False),
        ("https:///keys", False),
        ("file:///etc/passwd", False),
        ("ftp://identity.example/keys", False),
        ("data:application/json,{}", False),
        ("//identity.example/keys", False),
        ("identity.example/keys", False),
    ],
)
def test_keys_are_read_over_https_or_from_this_machine(url: str, is_safe: bool) -> None:
    """Else whoever sits on the way makes the keys."""
    provider = {
        "CHATRELAY_JWT_ISSUER": "x",
        "CHATRELAY_JWT_AUDIENCE": "x",
        "CHATRELAY_JWT_JWKS_URL": url,
    }
    if is_safe:
        assert settings_module.load({**_LEAST, **provider}).jwt_jwks_url == url
    else:
        with pytest.raises(InvalidSettings, match="https address without credentials"):
            settings_module.load({**_LEAST, **provider})


def test_no_secret_is_shown_by_a_setting_that_is_printed() -> None:
    settings = settings_module.load({**_LEAST, "OPENAI_API_KEY": "key-canary", "CHATRELAY_DEV_TOKEN": "token-canary"})
    assert "canary" not in f"{settings!r} {settings}"
    assert "canary" not in str(settings.model_dump())


def test_only_what_is_given_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the process's own environment."""
    monkeypatch.setenv("PORT", "1234")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    assert settings_module.load(_LEAST).port == 8000
    with pytest.raises(InvalidSettings):
        settings_module.load({})


def test_others_variables_are_none_of_ours() -> None:
    settings_module.load({**_LEAST, "PATH": "/bin", "REDIS_HOST": "x", "CHATRELAY_STATE_DIR": "/tmp/x"})


def test_settings_do_not_change() -> None:
    settings = settings_module.load(_LEAST)
    with pytest.raises(ValidationError):
        settings.port = 1


def test_every_setting_has_a_name_and_a_description() -> None:
    for name, field in Settings.model_fields.items():
        assert field.alias, name
        assert field.description, name
