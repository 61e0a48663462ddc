"""When a process that died is started again."""

from hypothesis import given
from hypothesis import strategies as st

from dev.supervisor import RestartPolicy

POLICY = RestartPolicy(first_delay_s=0.5, longest_delay_s=3, most_deaths=5, window_s=60)


def test_each_death_doubles_the_wait_up_to_the_longest() -> None:
    assert [POLICY.delay_s([0.0, 1.0, 2.0, 3.0][:count]) for count in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 3.0]


def test_the_fifth_death_within_the_window_is_the_last() -> None:
    assert POLICY.delay_s([0.0, 10.0, 20.0, 30.0, 40.0]) is None


def test_deaths_before_the_window_are_forgiven() -> None:
    assert POLICY.delay_s([0.0, 1.0, 2.0, 3.0, 100.0]) == 0.5


@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=1))
def test_a_process_that_is_not_given_up_waits_between_the_first_and_the_longest_delay(deaths_at_s: list[float]) -> None:
    delay_s = POLICY.delay_s(sorted(deaths_at_s))
    assert delay_s is None or POLICY.first_delay_s <= delay_s <= POLICY.longest_delay_s


@given(st.floats(min_value=60, max_value=1e6), st.integers(min_value=1, max_value=50))
def test_a_process_that_dies_once_a_window_is_never_given_up(apart_s: float, times: int) -> None:
    assert POLICY.delay_s([number * apart_s for number in range(times)]) is not None
