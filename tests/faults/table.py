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
_FAILOVER: Final = "test_redis_fails_over.py::test_"
_WIRE: Final = "test_redis_on_the_wire.py::test_"
_PROVIDER: Final = "test_the_provider_fails.py::test_"
_CANCEL: Final = "test_cancels.py::test_"

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
        "worker killed as it claims",
        "kill -9 after the bell was taken",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_KILL}[as the claim was sent]",
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
        "Redis failed over",
        "kill -9 of the master behind Sentinels while text comes",
        "a delay, or a snapshot (restored) of all text so far, then the rest",
        Promise.WITHOUT_REDIS,
        f"{_FAILOVER}the_master_of_redis_is_killed_in_the_middle_and_its_replica_goes_on",
    ),
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
    Row(
        "Redis paused",
        "CLIENT PAUSE until the worker has given its append up",
        _PAUSE,
        Promise.ONE_STORY,
        f"{_WIRE}client_pause_in_the_middle_delays_and_doubles_nothing",
    ),
    Row(
        "Redis full mid-delta",
        "CONFIG SET maxmemory 1, undone before the end",
        _PAUSE,
        Promise.WITHOUT_REDIS,
        f"{_WIRE}memory_runs_out_in_the_middle_live_events_resume_when_there_is_room_again",
    ),
    Row(
        "Redis full until the end, and at submit",
        "CONFIG SET maxmemory 1",
        "silence, then the row's answer; a submit answers 202",
        Promise.NOTHING_LOST,
        f"{_WIRE}memory_runs_out_until_the_end_the_answer_is_committed_and_a_submit_is_accepted",
    ),
    *(
        Row(
            f"log {how}",
            command,
            "a snapshot (restored) of all text so far, then the rest",
            Promise.WITHOUT_REDIS,
            f"{_WIRE}a_log_that_is_emptied_in_the_middle_is_begun_anew_with_all_text_so_far[{how}]",
        )
        for how, command in (("deleted", "DEL"), ("trimmed to nothing", "XTRIM MAXLEN 0"))
    ),
    Row(
        "log beheaded",
        "XTRIM MAXLEN 1 while text comes",
        "nothing; who comes late, the row's answer",
        Promise.ONE_STORY,
        f"{_WIRE}a_log_that_lost_its_beginning_shows_nobody_half_a_text",
    ),
    Row(
        "scripts forgotten",
        "SCRIPT FLUSH while text comes, twice",
        _NOTHING,
        Promise.ONE_STORY,
        f"{_WIRE}script_flush_in_the_middle_is_not_noticed",
    ),
    Row(
        "Redis emptied before the final commit",
        "FLUSHALL after the last append",
        "the row's answer, or a snapshot (restored) and the end",
        Promise.COMMITTED,
        f"{_WIRE}flushall_between_the_last_append_and_the_commit_the_row_tells_the_end",
    ),
    Row(
        "Redis emptied between the end and finalized",
        "FLUSHALL while the append is on its way",
        "the row's answer",
        Promise.COMMITTED,
        f"{_WIRE}flushall_between_the_commit_and_its_finalized_the_row_tells_the_end",
    ),
    Row(
        "bells deleted",
        "DEL of the queue and of what Celery knows of queues",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_WIRE}deleted_bells_are_rung_again",
    ),
    *(
        Row(
            f"append {when}: {manner}",
            "the worker's connections are ended exactly there, three times",
            _PAUSE,
            Promise.ONE_STORY,
            f"{_WIRE}a_workers_connections_are_cut_at_an_append_again_and_again[{when}-{manner}]",
        )
        for when in ("cut before it arrived", "cut after it arrived")
        for manner in ("rst", "fin")
    ),
    Row(
        "silence in the middle of an append",
        "half of it stands still, and nothing else passes",
        _PAUSE,
        Promise.ONE_STORY,
        f"{_WIRE}a_worker_is_answered_by_silence_in_the_middle_of_an_append",
    ),
    Row(
        "append late",
        "it arrives after it was repeated",
        _PAUSE,
        Promise.ONE_STORY,
        f"{_WIRE}an_append_that_comes_late_after_it_was_repeated_is_there_already",
    ),
    Row(
        "append not answered",
        "its reply stands still",
        _NOTHING,
        Promise.ONE_STORY,
        f"{_WIRE}the_answer_to_an_append_is_lost_its_bytes_are_sent_again_and_told_once",
    ),
    *(
        Row(
            f"Redis {how} for one worker mid-delta",
            "its way alone",
            _PAUSE,
            Promise.WITHOUT_REDIS,
            f"{_WIRE}a_worker_that_is_cut_off_from_redis_in_the_middle_goes_on_and_tells_the_rest_later[{how}]",
        )
        for how in ("refused", "silent", "never answered")
    ),
    *(
        Row(
            f"Redis {how} for one worker until the end",
            "its way alone",
            "silence, then the row's answer",
            Promise.WITHOUT_REDIS,
            f"{_WIRE}a_worker_that_is_cut_off_from_redis_until_the_end_commits_and_readers_get_it_all[{how}]",
        )
        for how in ("refused", "silent", "never answered")
    ),
    *(
        Row(
            f"Redis {how}",
            "latency on one worker's way",
            _PAUSE,
            Promise.ONE_STORY,
            f"{_WIRE}a_slow_redis_delays_and_doubles_nothing[{how}]",
        )
        for how in ("slow", "slower than anybody waits")
    ),
    *(
        Row(
            f"Redis {how} for one web process at submit",
            "its way alone",
            "a delay; a submit answers 202",
            Promise.NOTHING_LOST,
            f"{_WIRE}a_submit_is_accepted_by_an_api_that_is_cut_off_from_redis_and_the_sweeper_rings[{how}]",
        )
        for how in ("refused", "silent", "never answered")
    ),
    Row(
        "subscriptions silent",
        "their connections stand still as text comes",
        _PAUSE,
        Promise.ONE_STORY,
        f"{_WIRE}subscriptions_that_fall_silent_are_made_up_for_by_the_log",
    ),
    *(
        Row(
            f"Redis {how} for the web processes",
            "their ways alone",
            "silence, then the row's answer",
            Promise.WITHOUT_REDIS,
            f"{_WIRE}readers_of_an_api_that_is_cut_off_from_redis_get_the_end_from_the_row[{how}]",
        )
        for how in ("refused", "silent", "never answered")
    ),
)

FULL: Final = (
    Row(
        "Redis full while it cuts everybody off",
        "maxmemory reached, CLIENT KILL of all",
        _PAUSE,
        Promise.NOTHING_LOST,
        f"{_REDIS}workers_outlive_a_redis_that_is_full_and_cuts_them_off",
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

_BROKEN: Final = (
    "cut with FIN",
    "cut with RST",
    "cut in the middle of a line",
    "cut inside a character",
    "silent",
    "without a finish reason",
    "a line that is no JSON",
    "bytes that are no UTF-8",
    "a line that tells of a server's error",
)
_REFUSED: Final = (
    "401",
    "400",
    "429 without quota",
    "500 again and again",
    "429 again and again",
    "an empty answer again and again",
)

PROVIDER: Final = (
    *(
        Row(
            f"provider after text: {how}",
            "the stream ends so, with half of an answer shown",
            "a snapshot that takes the text back, then the answer",
            Promise.ONE_STORY,
            f"{_PROVIDER}a_stream_that_breaks_after_text_is_begun_anew_and_readers_are_told[{how}]",
        )
        for how in _BROKEN
    ),
    *(
        Row(
            f"provider before text: {how}",
            "the request is refused so, or answered with nothing",
            "an error with its code",
            Promise.NOTHING_LOST,
            f"{_PROVIDER}a_provider_that_refuses_ends_the_message_with_its_code[{how}]",
        )
        for how in _REFUSED
    ),
    Row(
        "provider in the second round",
        "RST, then 503, behind a tool's effect",
        "a snapshot of the first round, then the rest",
        Promise.EXACTLY_ONCE,
        f"{_PROVIDER}a_provider_that_fails_in_the_second_round_does_not_have_the_first_ones_tools_made_again",
    ),
)

CANCELS: Final = tuple(
    Row(
        f"cancel {when}",
        fault,
        "the text so far, and finalized(cancelled) once",
        Promise.CANCEL,
        f"{_CANCEL}{test}",
    )
    for when, fault, test in (
        (
            "before pickup",
            "no worker and no sweeper runs",
            "before_any_worker_takes_it_the_api_commits_it",
        ),
        ("while the model thinks", "none", "while_the_model_thinks"),
        ("mid-delta", "none", "in_the_middle_of_the_text"),
        (
            "mid-tool",
            "the project is locked by somebody else",
            "while_a_tool_is_at_work_its_effect_stands_or_not_but_never_half",
        ),
        ("during a pause before a retry", "the provider answers 429", "during_the_pause_before_a_retry"),
        ("with Redis down", "kill -9 of Redis", "with_redis_down_the_lease_brings_it"),
        ("of a lost worker's message", "kill -9 of the worker", "when_its_worker_is_lost_too_the_sweeper_commits_it"),
        *(
            (
                f"racing the end, seed {seed}",
                "several cancels and the end",
                f"racing_the_end_the_first_commit_wins[{seed}]",
            )
            for seed in range(6)
        ),
    )
)

TABLE: Final = (*PROCESSES, *POSTGRES, *REDIS, *FULL, *PROVIDER, *CANCELS, *TOGETHER)
