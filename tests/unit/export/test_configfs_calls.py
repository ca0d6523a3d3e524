"""How often the kernel is asked when nothing has changed."""

from __future__ import annotations

import pytest

from tests.contract.faulty import FaultyKernel
from tests.unit.export.test_exporter import CONFIG, bring_up, fill
from tests.unit.fakes import Bench


@pytest.mark.parametrize(("disks", "calls"), [(1, 20), (2, 28), (8, 76)])
def test_a_reconcile_that_changes_nothing_reads_the_gadget_once(
    bench: Bench, disks: int, calls: int
) -> None:
    fill(bench, *(f"nvme{n}n1" for n in range(disks)))
    kernel = FaultyKernel(bench.kernel)
    exporter = bench.exporter(kernel)
    exporter.prepare()
    bring_up(exporter, bench)
    for _ in range(3):
        kernel.calls.clear()
        bring_up(exporter, bench, CONFIG)
        assert len(kernel.calls) == calls
        assert {verb for verb, _ in kernel.calls} == {"read", "directories", "links"}
