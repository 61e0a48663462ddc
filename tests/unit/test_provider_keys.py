"""When the identity provider is asked for its keys: seldom, by one at a time, and never because a stranger wants it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from api import provider_keys
from api.identity import JwtRefused
from api.provider_keys import KeysAway, ProviderKeys
from api.refusals import IdentityUnavailable
from tests.identity_provider import ec_key, public


class Provider:
    """Has the keys of these names; `asked` times asked so far. What `is_open` stops waits to be answered."""

    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.is_away = False
        self.asked = 0
        self.was_asked = threading.Semaphore(0)
        self.is_open = threading.Event()
        self.is_open.set()
        self.now_s = 1000.0
        self.document: bytes | None = None

    def fetch(self) -> bytes:
        self.asked += 1
        self.was_asked.release()
        assert self.is_open.wait(30)
        if self.is_away:
            raise KeysAway("away")
        keys = [public(ec_key("a key"), kid) for kid in self.kids]
        return json.dumps({"keys": keys}).encode() if self.document is None else self.document

    def keys(self, *, max_waiting: int = 4) -> ProviderKeys:
        return ProviderKeys(self.fetch, max_waiting=max_waiting, clock=lambda: self.now_s)


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider("one")
    yield made
    made.is_open.set()


def outcome(keys: ProviderKeys, kid: str) -> str:
    try:
        return f"found {keys.find(kid).key_id or kid}"
    except JwtRefused:
        return "refused"
    except IdentityUnavailable:
        return "unavailable"


def outcomes(keys: ProviderKeys, step: int, number: int) -> set[str]:
    """Of forty names that nobody else asks for."""
    return {outcome(keys, f"{step}-{number}-{i}") for i in range(40)}


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(count)

    def at_once(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(at_once, range(count)))


def read_anew(keys: ProviderKeys, holds: Callable[[], bool]) -> None:
    """Until what was asked for in the background has come."""
    deadline_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.005)


def test_keys_are_asked_for_with_the_first_jwt_and_then_known(provider: Provider) -> None:
    keys = provider.keys()
    assert provider.asked == 0
    for _ in range(100):
        assert outcome(keys, "one") == "found one"
    assert provider.asked == 1


def test_a_process_that_starts_asks_before_anybody_comes_and_waits_for_nothing(provider: Provider) -> None:
    provider.is_open.clear()
    keys = provider.keys()
    keys.prepare()
    assert provider.was_asked.acquire(timeout=30)
    provider.is_open.set()
    assert outcome(keys, "one") == "found one"
    assert provider.asked == 1


def test_many_that_come_at_once_ask_once(provider: Provider) -> None:
    keys = provider.keys(max_waiting=16)
    assert together(16, lambda _: outcome(keys, "one")) == ["found one"] * 16
    assert provider.asked == 1


def test_a_thousand_names_that_nobody_has_ask_once(provider: Provider) -> None:
    """And once more when so long has gone by, whatever comes meanwhile: strangers make no load for the provider."""
    keys = provider.keys()
    assert outcome(keys, "one") == "found one"
    for step in range(3):
        provider.now_s += provider_keys.AGAIN_S
        found = together(8, partial(outcomes, keys, step))
        assert set.union(*found) <= {"refused", "unavailable"}
        assert provider.asked == 2 + step


def test_a_new_key_is_found_by_asking_once_more(provider: Provider) -> None:
    """The provider changed its keys since: the first JWT of the new one waits for the answer."""
    keys = provider.keys()
    assert outcome(keys, "one") == "found one"
    provider.kids = ("two",)
    assert outcome(keys, "two") == "refused", "it was asked a moment ago"
    provider.now_s += provider_keys.AGAIN_S
    assert outcome(keys, "two") == "found two"
    assert outcome(keys, "one") == "refused"
    assert provider.asked == 2


def test_a_key_that_was_taken_back_opens_nothing_after_a_while_and_nobody_waits_for_that(provider: Provider) -> None:
    keys = provider.keys()
    assert outcome(keys, "one") == "found one"
    provider.kids = ("two",)
    provider.now_s += provider_keys.FRESH_S + 1
    provider.is_open.clear()
    assert outcome(keys, "one") == "found one", "what is there serves while it is asked for anew"
    provider.is_open.set()
    read_anew(keys, lambda: outcome(keys, "one") == "refused")
    assert outcome(keys, "two") == "found two"
    assert provider.asked == 2


def test_a_key_that_was_taken_back_while_nobody_came_opens_nothing(provider: Provider) -> None:
    """The first one after a quiet night waits for what the provider says now."""
    keys = provider.keys()
    assert outcome(keys, "one").startswith("found")
    provider.kids = ("two",)
    provider.now_s += 10 * 3600
    assert outcome(keys, "one") == "refused"
    assert outcome(keys, "two").startswith("found")


def test_while_the_provider_is_away_its_keys_are_kept_for_a_day(provider: Provider) -> None:
    keys = provider.keys()
    assert outcome(keys, "one") == "found one"
    provider.is_away = True
    for _ in range(3):
        before = provider.asked
        provider.now_s += provider_keys.FRESH_S + 1
        assert outcome(keys, "one") == "found one"
        assert provider.was_asked.acquire(timeout=30)
        assert provider.asked == before + 1
        read_anew(keys, lambda: keys._asking is None)
    assert keys.state() == "late: the keys could not be read for 903 s"
    assert outcome(keys, "other") == "unavailable", "whether it has that one now is not known"
    provider.now_s += provider_keys.MOST_AGE_S
    assert outcome(keys, "one") == "unavailable"
    provider.is_away = False
    provider.now_s += provider_keys.AGAIN_S
    assert outcome(keys, "one") == "found one"
    assert keys.state() == "ok"


def test_who_comes_before_there_are_keys_is_told_to_come_back(provider: Provider) -> None:
    """The provider is asked again only after a while, however many come."""
    provider.is_away = True
    keys = provider.keys()
    assert [outcome(keys, "one") for _ in range(5)] == ["unavailable"] * 5
    assert provider.asked == 1
    assert keys.state() == "late: the keys could not be read"
    provider.is_away = False
    provider.now_s += provider_keys.AGAIN_S
    assert outcome(keys, "one") == "found one"


@pytest.mark.parametrize("document", [b"", b"<html>", b'{"keys":[]}', b"\xff", b'{"keys":[{"kty":"oct"}]}'])
def test_an_answer_without_a_key_leaves_those_that_there_are(provider: Provider, document: bytes) -> None:
    """A provider's error page takes nobody's access away."""
    keys = provider.keys()
    assert outcome(keys, "one") == "found one"
    provider.document = document
    provider.now_s += provider_keys.AGAIN_S
    assert outcome(keys, "other") == "unavailable"
    assert outcome(keys, "one") == "found one"
    assert provider.asked == 2


def test_a_provider_that_hangs_takes_so_many_requests_and_no_more(provider: Provider) -> None:
    """The others are answered at once, and those whose key is known are not held up."""
    keys = provider.keys(max_waiting=2)
    assert outcome(keys, "one") == "found one"
    provider.is_open.clear()
    provider.now_s += provider_keys.AGAIN_S
    answers: list[str] = []
    changed = threading.Condition()

    def ask(number: int) -> None:
        answer = outcome(keys, f"new-{number}")
        with changed:
            answers.append(answer)
            changed.notify()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    with changed:
        assert changed.wait_for(lambda: len(answers) == 6, 30)
    assert outcome(keys, "one") == "found one"
    provider.is_open.set()
    for thread in threads:
        thread.join()
    assert answers[:6] == ["unavailable"] * 6
    assert answers[6:] == ["refused"] * 2
