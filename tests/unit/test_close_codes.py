"""The close codes are public: numbers, and whether a client comes back."""

from __future__ import annotations

from api.close_codes import CloseCode
from api.wire import close_frame


def test_the_table_holds_what_clients_are_told() -> None:
    assert {code.value: code.reconnects for code in CloseCode} == {
        1000: False,
        1002: False,
        1007: False,
        1008: False,
        1011: True,
        1012: True,
        4008: True,
        4401: False,
        4403: False,
    }


def test_every_reason_fits_a_close_frame() -> None:
    for code in CloseCode:
        assert close_frame(code, code.reason) == bytes([0x88, 2 + len(code.reason)]) + code.to_bytes(2, "big") + (
            code.reason.encode()
        )
