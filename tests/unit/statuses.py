"""Statuses for tests: one as on a bench, and any that could ever be (hypothesis)."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gadgetd.disks.disk import Disk, Health, Kind
from gadgetd.disks.health import WARNINGS
from gadgetd.errors import Problem
from gadgetd.status import Board, Controller, DiskStatus, Life, Phase, Status

CM4 = Board("Raspberry Pi Compute Module 4 Rev 1.1", "10000000a1b2c3d4")
UDC = Controller("fe980000.usb", "configured", "high-speed")


def disk(name: str = "mmcblk0", kind: Kind = Kind.EMMC, size_bytes: int = 31_268_536_320) -> Disk:
    return Disk(name, kind, Path("/dev") / name, size_bytes, model="BJTD4R", serial="0x1f2e")


def nvme(number: int, lun: int | None = None, life: Life = Life.IDLE) -> DiskStatus:
    row = disk(f"nvme{number}n1", Kind.NVME, 500_107_862_016)
    return DiskStatus(row, number if lun is None else lun, "exported by default", life=life)


def left_out(name: str = "sda", reason: str = "mounted on /mnt") -> DiskStatus:
    return DiskStatus(disk(name, Kind.USB), None, reason)


def status(
    *disks: DiskStatus,
    phase: Phase = Phase.EXPORTED,
    message: str = "the disks are exported",
    problem: Problem | None = None,
    advice: tuple[Problem, ...] = (),
    controller: Controller | None = UDC,
    safe_to_unplug: bool = False,
) -> Status:
    return Status("0.1.0", phase, message, CM4, problem, advice, controller, disks, safe_to_unplug)


PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A whole status takes a while to make, and a busy machine is no failure."""

HOSTILE = (
    st.text(max_size=60)
    | st.sampled_from(
        [
            "",
            " ",
            "\x1b[2J\x1b]0;owned\x07",
            "a\nb\r\n@gadgetd {}",
            "\x9b2J",
            "\u202emoc",
            "\udc80\udcff",
        ]
    )
    | st.text(st.characters(), max_size=20)
)
"""Whatever a disk's model, a file's name or a message could hold."""

_BYTES = st.integers(0, 1 << 64)
_PROBLEMS = st.builds(
    Problem,
    HOSTILE,
    HOSTILE,
    HOSTILE,
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    HOSTILE,
    HOSTILE,
)
_STATES = st.sampled_from(
    ["", "not attached", "attached", "powered", "default", "addressed", "configured", "suspended"]
)
_ROWS = st.builds(
    DiskStatus,
    disk=st.builds(
        Disk,
        name=st.sampled_from(["mmcblk0", "nvme0n1", "nvme10n1", "sda"]) | HOSTILE,
        kind=st.sampled_from(Kind),
        node=st.just(Path("/dev/x")),
        size_bytes=_BYTES,
        block_size=st.sampled_from([512, 4096]),
        read_only=st.booleans(),
        model=HOSTILE,
        serial=HOSTILE,
    ),
    lun=st.none() | st.integers(0, 40),
    reason=HOSTILE,
    read_only=st.booleans(),
    inquiry=HOSTILE,
    life=st.sampled_from(Life),
    read_bytes=_BYTES,
    written_bytes=_BYTES,
    rate_bytes_s=_BYTES,
    health=st.none()
    | st.builds(
        Health,
        worn_percent=st.none() | st.integers(0, 255),
        spare_percent=st.none() | st.integers(0, 255),
        media_errors=st.none() | _BYTES,
        temperature_c=st.none() | st.integers(-273, 65535),
        warnings=st.lists(st.sampled_from(WARNINGS), unique=True).map(tuple),
    ),
)
STATUSES = st.builds(
    Status,
    version=st.just("0.1.0"),
    phase=st.sampled_from(Phase),
    message=HOSTILE,
    board=st.builds(Board, HOSTILE, HOSTILE),
    problem=st.none() | _PROBLEMS,
    advice=st.lists(_PROBLEMS, max_size=3).map(tuple),
    controller=st.none()
    | st.builds(
        Controller,
        HOSTILE,
        _STATES | HOSTILE,
        st.sampled_from(["", "UNKNOWN", "full-speed", "high-speed", "super-speed"]) | HOSTILE,
        HOSTILE,
    ),
    disks=st.lists(_ROWS, max_size=12).map(tuple),
    safe_to_unplug=st.booleans(),
)
"""Any status, also those that the daemon would never make."""
