"""When a member is captured, and how intervals and sizes are read."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonance.model.errors import InvalidInput
from resonance.model.schedule import Capture, Observed, Reason, Wait, decide, offset_of, retry_delay, slowed_to
from resonance.model.units import parse_duration, parse_size, show_duration


def observed(**changes: object) -> Observed:
    known: dict[str, object] = {
        "now": 100_000,
        "every": 10_000,
        "origin": 0,
        "offset": 300,
        "started": 90_400,
        "took": 20,
    }
    return Observed(**{**known, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("5m", 300), ("1h", 3600), ("0s", 0), ("999999s", 999_999)])
def test_an_interval_is_a_whole_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration("every", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "5 min", "-1s", "1.5s", "1m30s", "10S", "1d", "010s", "1s\n", "\u0661s"])
def test_anything_else_is_refused_with_path_value_and_remedy(text: str) -> None:
    with pytest.raises(InvalidInput, match="whole number and s, m or h") as refused:
        parse_duration("spec.schedule.every", text)
    assert (refused.value.path, refused.value.value) == ("spec.schedule.every", text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("8Mi", 8 << 20), ("1Gi", 1 << 30), ("1k", 1000), ("2M", 2_000_000), ("1Ki", 1024)],
)
def test_a_size_is_a_whole_number_and_maybe_a_unit(text: str, size: int) -> None:
    assert parse_size("maxBytes", text) == size


@pytest.mark.parametrize("text", ["", "0", "8 Mi", "8MB", "1.5Gi", "-1", "8mi", "1e3"])
def test_a_wrong_size_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(InvalidInput, match="Try '8Mi'"):
        parse_size("spec.source.http.maxBytes", text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(250, "250ms"), (8200, "8.2s"), (10_000, "10s"), (300_000, "5m"), (7_200_000, "2h"), (90_000, "90s")],
)
def test_an_interval_is_shown_as_people_write_it(ms: int, text: str) -> None:
    assert show_duration(ms) == text


def test_the_first_capture_is_due_at_once() -> None:
    assert decide(observed(started=None)) == Capture(100_000)


def test_nothing_is_captured_before_it_is_due() -> None:
    assert decide(observed(now=100_299)) == Wait(100_300, Reason.NOT_DUE)
    assert decide(observed(now=100_300)) == Capture(100_300)


def test_late_captures_coalesce_into_one() -> None:
    assert decide(observed(now=187_000)) == Capture(100_300)
    assert decide(observed(now=187_010, started=187_000)) == Wait(190_300, Reason.NOT_DUE)


def test_one_capture_is_in_flight_at_a_time() -> None:
    assert decide(observed(now=187_000, in_flight=True)) == Wait(190_300, Reason.IN_FLIGHT)


def test_a_suspended_member_only_beats() -> None:
    assert decide(observed(now=187_000, suspended=True)) == Wait(190_300, Reason.SUSPENDED)


def test_a_slow_capture_stretches_the_interval_and_says_so() -> None:
    assert decide(observed(now=100_300, took=4_000)) == Wait(106_400, Reason.SLOWED)
    assert slowed_to(10_000, 4_000) == 16_000
    assert slowed_to(10_000, 2_500) is None


def test_an_app_that_still_starts_is_asked_each_second() -> None:
    assert decide(observed(started=99_500, settled=False)) == Wait(100_500, Reason.NOT_DUE)
    assert decide(observed(started=99_800, settled=False, every=500)) == Wait(100_300, Reason.NOT_DUE)


@given(
    every=st.integers(1_000, 100_000),
    origin=st.integers(0, 10**9),
    offset=st.integers(0, 10_000),
    took=st.integers(0, 50_000),
    steps=st.lists(st.integers(0, 200_000), max_size=60),
)
def test_each_interval_has_at_most_one_capture_and_none_comes_faster_than_it_may(
    every: int, origin: int, offset: int, took: int, steps: list[int]
) -> None:
    now, started, cells = origin, None, []
    for step in steps:
        now += step
        seen = Observed(now=now, every=every, origin=origin, offset=offset, started=started, took=took)
        decision = decide(seen)
        if isinstance(decision, Capture):
            assert started is None or now - started >= 4 * took
            started = now
            cells.append((now - origin - offset) // every)
        else:
            assert decision.until > now
    assert len(cells) == len(set(cells))


@given(member=st.text(max_size=40), jitter=st.integers(0, 10**7))
def test_the_jitter_of_a_member_is_stable_and_within_its_bound(member: str, jitter: int) -> None:
    assert offset_of(member, jitter) == offset_of(member, jitter)
    assert 0 <= offset_of(member, jitter) <= max(0, jitter - 1)


def test_members_are_spread_over_the_jitter() -> None:
    places = [offset_of(f"web-{index}", 1_000) for index in range(200)]
    assert all(sum(low <= place < low + 250 for place in places) >= 10 for low in (0, 250, 500, 750))


def test_retries_double_up_to_a_bound() -> None:
    assert [retry_delay(n, first=200, most=2_000) for n in (1, 2, 3, 4, 5, 99)] == [200, 400, 800, 1600, 2000, 2000]
