"""What the charts on HDMI are drawn from."""

from __future__ import annotations

from gadgetd.show.rates import Rates
from gadgetd.status import DiskStatus, Life
from tests.unit.statuses import nvme, status


def moving(rate: int, life: Life = Life.WRITING, number: int = 0) -> DiskStatus:
    return nvme(number, life=life)._replace(rate_bytes_s=rate)


def test_a_rate_a_second_is_kept_and_the_last_one_in_it_counts() -> None:
    rates = Rates()
    for half, rate in enumerate((1, 2, 3, 4, 5)):
        rates.note(status(moving(rate)), 100 + half / 2)
    assert rates.of(nvme(0)) == (2, 4, 5)


def test_a_disk_at_rest_adds_nothing_and_a_pause_is_one_gap() -> None:
    rates = Rates()
    rates.note(status(moving(7)), 0.0)
    for now in range(1, 100):
        rates.note(status(moving(0, Life.IDLE)), float(now))
    assert rates.of(nvme(0)) == (7,)
    rates.note(status(moving(9, Life.READING)), 100.0)
    assert rates.of(nvme(0)) == (7, 0, 9)


def test_a_disk_that_left_is_forgotten_and_each_has_its_own() -> None:
    rates = Rates()
    rates.note(status(moving(1), moving(2, number=1)), 0.0)
    assert (rates.of(nvme(0)), rates.of(nvme(1))) == ((1,), (2,))
    rates.note(status(moving(2, number=1)), 1.0)
    assert (rates.of(nvme(0)), rates.of(nvme(1))) == ((), (2, 2))
    # Its LUN is kept, and another disk may come into it.
    rates.note(status(nvme(1, life=Life.GONE)), 2.0)
    assert rates.of(nvme(1)) == ()


def test_no_more_is_kept_than_a_screen_can_show() -> None:
    rates = Rates()
    for now in range(1000):
        rates.note(status(moving(now)), float(now))
    assert len(rates.of(nvme(0))) == 120
    assert rates.of(nvme(0))[-1] == 999
