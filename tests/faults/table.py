"""Every fault that is injected: what a reader sees of it, which promise it puts to the test, and the test that shows it.

`test_the_table.py` holds this to the tests and to ARCHITECTURE.md's table of failures.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Promise(StrEnum):
    """What must hold whatever one process, Redis, the provider or Postgres does."""

    NOTHING_LOST = "nothing acknowledged is lost or stuck"
    ONE_STORY = "every reader sees one story"
    COMMITTED = "finalized means committed"
    EXACTLY_ONCE = "tools take effect exactly once"
    STALE_IS_HARMLESS = "a stale worker is harmless"
    NOTICED = "a dead worker is noticed, and the next attempt begins"
    CANCEL = "cancel reaches the provider"
    WITHOUT_REDIS = "Redis is not needed for the answer"
    THEIRS = "nobody reads or changes what is not theirs"


class Row(NamedTuple):
    name: str
    fault: str
    reader_sees: str
    promise: Promise
    test: str
    """Its name in pytest, from the file on."""


_LOST: Final = "test_a_worker_is_lost.py::test_"
_STEPS: Final = "test_every_step_of_a_turn_may_be_the_last.py::test_"
_WEB: Final = "test_a_web_process_or_postgres_is_lost.py::test_"
_PG: Final = "test_postgres_fails.py::test_"
_ALL: Final = "test_everything_fails_at_once.py::test_"
_BUILDER: Final = "test_a_builder_is_lost.py::test_"
_REDIS: Final = "test_redis_is_lost.py::test_"

_REST: Final = "a snapshot, then the rest"
_PAUSE: Final = "a delay"
_NOTHING: Final = "nothing"

_KILL: Final = f"{_STEPS}kill_9_between_two_steps"
_UNANSWERED: Final = f"{_STEPS}a_commit_that_nobody_answered"
_REFUSES: Final = f"{_PG}postgres_refuses_in_the_middle_of_an_answer"

PROCESSES: Final = (
    Row(
        "worker killed mid-delta",
        "kill -9 of the worker while text comes, with default settings",
        _REST,
        Promise.NOTICED,
        f"{_LOST}kill_9_of_the_worker_with_default_settings_another_one_begins_anew_and_says_it_all",
    ),
    Row(
        "worker killed before the claim",
        "kill -9 after the bell was taken",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_KILL}[after the bell was taken and before the claim]",
    ),
    Row("worker killed after the claim", "kill -9", _REST, Promise.NOTICED, f"{_KILL}[after the claim]"),
    Row(
        "worker killed after a round was stored",
        "kill -9 as the commit is answered",
        _REST,
        Promise.EXACTLY_ONCE,
        f"{_KILL}[after the round was stored]",
    ),
    Row(
        "worker killed before a stored call was run",
        "kill -9 between the stored round and its tool",
        "a snapshot without the call, then its start and result",
        Promise.EXACTLY_ONCE,
        f"{_LOST}kill_9_after_a_round_was_stored_and_before_its_tool_ran_the_next_attempt_runs_it",
    ),
    Row(
        "worker killed after an effect",
        "kill -9 as the commit is answered",
        "a snapshot with the call as succeeded, then the rest",
        Promise.EXACTLY_ONCE,
        f"{_KILL}[after the effect and before its event]",
    ),
    Row(
        "worker killed between an effect and its event",
        "kill -9 while the append waits for Redis",
        "a snapshot with the call as succeeded, then the rest",
        Promise.EXACTLY_ONCE,
        f"{_LOST}kill_9_between_a_tools_commit_and_its_event_the_next_attempt_shows_its_effect_once",
    ),
    Row(
        "worker killed between the end and finalized",
        "kill -9 as the final commit is answered",
        "a delay, then the end",
        Promise.COMMITTED,
        f"{_KILL}[after the end and before finalized]",
    ),
    Row(
        "worker stopped beyond its lease",
        "SIGSTOP, then SIGCONT",
        "a snapshot, then the other worker's answer",
        Promise.STALE_IS_HARMLESS,
        f"{_LOST}a_worker_that_was_stopped_beyond_its_lease_and_wakes_up_harms_nothing",
    ),
    Row(
        "worker asked to end",
        "SIGTERM",
        _REST,
        Promise.NOTHING_LOST,
        f"{_LOST}sigterm_of_the_worker_hands_the_message_to_the_other_at_no_cost_of_a_try",
    ),
    Row(
        "worker and sweeper together",
        "kill -9 of both",
        _REST,
        Promise.NOTHING_LOST,
        f"{_LOST}worker_and_sweeper_killed_together_the_next_sweeper_takes_the_lease",
    ),
    Row(
        "three lost workers",
        "kill -9 of each",
        "error worker_lost, the text kept",
        Promise.NOTHING_LOST,
        f"{_LOST}a_message_that_loses_three_workers_ends_as_worker_lost_with_its_text",
    ),
    Row(
        "poison",
        "every turn breaks by an error that nobody foresaw",
        "snapshots, then error worker_lost, the text kept",
        Promise.NOTHING_LOST,
        f"{_STEPS}a_message_that_breaks_every_turn_ends_with_its_text",
    ),
    Row(
        "bells lost and doubled",
        "the queue emptied; twenty bells for one message",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_LOST}a_lost_bell_is_rung_again_and_a_doubled_one_changes_nothing",
    ),
    Row(
        "bell lost on the wire",
        "the worker's connection is reset as the bell comes",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_STEPS}a_bell_whose_answer_is_lost_on_the_wire_is_rung_again",
    ),
    Row(
        "no sweeper",
        "kill -9",
        "nothing; /readyz tells it",
        Promise.NOTICED,
        "test_the_sweepers_are_seen.py::test_a_sweeper_that_is_gone_is_told_as_late_and_takes_no_api_process_away",
    ),
    Row(
        "web process killed",
        "kill -9",
        "goes on at another process, without a gap",
        Promise.ONE_STORY,
        f"{_WEB}kill_9_of_a_web_process_its_readers_go_on_at_the_other_without_a_gap",
    ),
    Row(
        "web process asked to end",
        "SIGTERM",
        "1012, and goes on at another process",
        Promise.ONE_STORY,
        f"{_WEB}sigterm_of_a_web_process_sends_its_readers_away_with_1012",
    ),
    *(
        Row(
            f"builder killed: {whom}",
            "kill -9 while the model writes",
            "a snapshot, then the end",
            Promise.NOTICED,
            f"{_BUILDER}kill_9_while_the_model_writes_another_one_builds_it[{whom}]",
        )
        for whom in ("the whole builder", "its child", "its parent")
    ),
    *(
        Row(
            f"builder hurt while {phase}: {how}",
            how,
            "the end" if how == "cancel" else "a snapshot, then the end",
            Promise.CANCEL if how == "cancel" else Promise.NOTHING_LOST,
            f"{_BUILDER}whatever_happens_while_it_is_compiled_the_message_ends[{how}-{phase}]",
        )
        for how in ("kill the whole builder", "kill its child", "kill its parent", "SIGTERM", "cancel")
        for phase in ("checking", "bundling")
    ),
    Row(
        "builder asked to end",
        "SIGTERM",
        "a snapshot, then the end",
        Promise.NOTHING_LOST,
        f"{_BUILDER}sigterm_hands_the_build_back_at_no_cost_of_a_try",
    ),
    Row(
        "no builder",
        "kill -9, then a cancel",
        "the end",
        Promise.NOTHING_LOST,
        f"{_BUILDER}without_any_builder_a_cancel_ends_the_message",
    ),
    Row(
        "three lost builders",
        "kill -9 of each",
        "error worker_lost, the text kept",
        Promise.NOTHING_LOST,
        f"{_BUILDER}builders_that_are_lost_again_and_again_end_the_message",
    ),
)

POSTGRES: Final = (
    Row(
        "Postgres killed mid-delta",
        "kill -9 of the postmaster, started again after the model's end",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_WEB}postgres_killed_in_the_middle_and_started_again_the_message_completes",
    ),
    Row(
        "Postgres restarted mid-delta",
        "kill -9 of the postmaster, started again at once",
        _NOTHING,
        Promise.NOTHING_LOST,
        f"{_WEB}postgres_restarted_between_two_halves_costs_nobody_a_try",
    ),
    Row(
        "idle connections ended",
        "a restart between requests",
        _NOTHING,
        Promise.NOTHING_LOST,
        f"{_WEB}requests_after_a_restart_of_postgres_find_no_dead_connection",
    ),
    *(
        Row(
            f"Postgres {how}",
            fault,
            "a delay; a submit answers 503, and its key repeats it safely",
            Promise.NOTHING_LOST,
            f"{_REFUSES}[{how}]",
        )
        for how, fault in (
            ("unreachable", "connections reset and refused, of every process"),
            ("read only", "default_transaction_read_only, as after a failover"),
            ("out of connections", "as many clients as it takes, none of them ours"),
            ("disk full", "53100 at every write of a message"),
        )
    ),
    *(
        Row(
            f"submit's {lost}",
            "the connection is reset at the commit",
            "503, and the same key makes one pair of it",
            Promise.NOTHING_LOST,
            f"{_PG}the_commit_of_a_submit_is_not_answered[{lost}]",
        )
        for lost in ("answer lost", "request lost")
    ),
    *(
        Row(
            f"{lost} at the commit of the {what}",
            "the worker's connection is reset exactly there",
            _NOTHING,
            Promise.COMMITTED if what == "end" else Promise.EXACTLY_ONCE,
            f"{_UNANSWERED}[{what}-{lost}]",
        )
        for what in ("claim", "stored round", "tool's effect", "end")
        for lost in ("answer lost", "request lost")
    ),
    Row(
        "Postgres stands still mid-delta",
        "SIGSTOP of all its processes",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_PG}postgres_stands_still_in_the_middle_of_an_answer",
    ),
    Row(
        "Postgres stands still at the final commit",
        "SIGSTOP of all its processes; the commit comes late",
        "a delay, then the end",
        Promise.COMMITTED,
        f"{_PG}postgres_stands_still_at_the_final_commit_which_comes_late",
    ),
    *(
        Row(
            f"Postgres {manner} for one worker",
            "its way alone, until its lease is over",
            "a snapshot, then the other worker's answer",
            Promise.STALE_IS_HARMLESS,
            f"{_PG}postgres_is_gone_for_one_worker_the_other_takes_over[{manner}]",
        )
        for manner in ("silent", "refusing")
    ),
    Row(
        "connections ended",
        "pg_terminate_backend of all, again and again",
        _NOTHING,
        Promise.NOTHING_LOST,
        f"{_PG}connections_that_are_ended_again_and_again_cost_nobody_a_try",
    ),
    *(
        Row(
            f"disk full at {what}",
            "53100 at that write alone",
            _PAUSE,
            Promise.EXACTLY_ONCE,
            f"{_PG}the_disk_is_full_in_the_middle_of_a_turn[{what}]",
        )
        for what in ("the stored round", "the tool's commit", "the final commit")
    ),
    Row(
        "Postgres slow",
        "every piece of bytes takes 50 ms longer, both ways",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_PG}postgres_answers_slowly",
    ),
    Row(
        "a row locked",
        "its lease cannot be renewed, another one's can",
        "a delay; for the other, nothing",
        Promise.NOTHING_LOST,
        f"{_PG}a_locked_row_keeps_no_other_lease_from_being_renewed",
    ),
    Row(
        "Postgres gone for one web process",
        "its way alone",
        "nothing; its requests answer 503",
        Promise.ONE_STORY,
        f"{_PG}a_web_process_that_lost_postgres_goes_on_telling_what_comes",
    ),
)

REDIS: Final = (
    Row(
        "Redis emptied",
        "FLUSHALL while text comes",
        "a snapshot (restored) of all text so far, then the rest",
        Promise.WITHOUT_REDIS,
        f"{_REDIS}flushall_in_the_middle_readers_get_a_restored_snapshot_and_then_the_rest",
    ),
    Row(
        "log lost after the end",
        "FLUSHALL",
        "the row's snapshot and finalized",
        Promise.WITHOUT_REDIS,
        f"{_REDIS}a_log_that_is_lost_after_the_end_is_made_up_for_by_the_row",
    ),
    *(
        Row(
            f"Redis killed and started {how}",
            "kill -9 while text comes",
            _PAUSE,
            Promise.WITHOUT_REDIS,
            f"{_REDIS}redis_killed_in_the_middle_and_started_again_later_readers_get_the_rest[{how}]",
        )
        for how in ("with its data", "empty")
    ),
    Row(
        "Redis away until the end",
        "kill -9",
        "silence, then the row's answer",
        Promise.WITHOUT_REDIS,
        f"{_REDIS}redis_away_until_the_end_the_answer_is_committed_and_readers_get_it_from_the_row",
    ),
    Row(
        "subscriptions cut",
        "CLIENT KILL TYPE pubsub, again and again",
        _PAUSE,
        Promise.ONE_STORY,
        f"{_REDIS}a_subscription_that_is_cut_delays_events_and_loses_none",
    ),
    Row(
        "every client cut",
        "CLIENT KILL of all, again and again",
        _PAUSE,
        Promise.ONE_STORY,
        f"{_REDIS}every_client_cut_off_in_the_middle_the_workers_connection_too",
    ),
)

TOGETHER: Final = (
    Row(
        "both stores away",
        "kill -9 of Postgres and Redis before a tool's effect",
        _PAUSE,
        Promise.EXACTLY_ONCE,
        f"{_ALL}postgres_and_redis_away_at_once",
    ),
    Row(
        "one worker cut off from both stores",
        "what it sent meanwhile comes late",
        "a snapshot, then the other worker's answer",
        Promise.STALE_IS_HARMLESS,
        f"{_ALL}one_worker_is_cut_off_from_both_stores_and_what_it_sent_comes_late",
    ),
    *(
        Row(
            f"{what} killed at once",
            "kill -9, and a start",
            "comes back, a snapshot, then the rest",
            Promise.NOTHING_LOST,
            f"{_ALL}kill_9_of_everything_at_once[{what}]",
        )
        for what in ("every process", "every process and both stores")
    ),
)

TABLE: Final = (*PROCESSES, *POSTGRES, *REDIS, *TOGETHER)
