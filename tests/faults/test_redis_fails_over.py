"""Redis behind Sentinels: its master is killed in the middle of an answer, and the replica goes on in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.faults.conftest import SHORT_LEASES
from tests.people import Person
from tests.redis_sentinels import Sentinels
from tests.rights import WORKER, redis_as
from tests.stack import Stack

_THIRDS: Final = (
    {"text": "The first third, "},
    {"hold": "one"},
    {"text": "the second, "},
    {"hold": "two"},
    {"text": "and the last."},
)
_WHOLE: Final = "The first third, the second, and the last."


def test_the_master_of_redis_is_killed_in_the_middle_and_its_replica_goes_on(
    stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """Log, channels and bells all find the new master by themselves; the model is asked once.

    As users of Redis that may do what they must: who asks Sentinels also asks the server what it is.
    """
    with Sentinels(tmp_path) as sentinels:
        as_worker = redis_as(WORKER, sentinels.url)
        running = stack(webs=2, settings=SHORT_LEASES, redis_url=as_worker, is_least=True)
        running.model.say("failover", *_THIRDS)
        running.model.say("afterwards", {"text": _WHOLE})
        with Person(running) as person:
            project_id = person.project()
            message_id = person.submit(project_id, "failover in between")
            with person.audience(message_id) as audience:
                audience.wait_text("The first third, ")
                killed = sentinels.kill_master()
                running.model.release("one")
                running.model.wait_held("two")
                sentinels.wait_failed_over(killed)
                audience.wait_text("the second, ")
                running.model.release("two")
                audience.finish()
                row = person.row(message_id)
                audience.check(row)
            assert (row["status"], row["content"]) == ("success", _WHOLE)
            assert len(running.model.requests()) == 1
            assert person.answer_to(project_id, "afterwards")["content"] == _WHOLE
        assert sentinels.master() is not killed
        assert running.redis.xlen(f"chatrelay:log:{{{message_id}}}") > 0
