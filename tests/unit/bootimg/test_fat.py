"""The FAT of a boot.img: what is written is read by all, and what lies is found out."""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootimg import create, fat, fatnames, fatwrite
from bootimg.errors import BootimgError
from tests.unit.bootimg.images import boot_img, fsck, mtools_names, program

EPOCH = 1781643700
NAMES = st.one_of(
    st.from_regex(r"[A-Z0-9_]{1,8}(\.[A-Z0-9]{1,3})?", fullmatch=True),
    st.from_regex(r"[a-z0-9_]{1,8}(\.[a-z0-9]{1,3})?", fullmatch=True),
    st.text(
        st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters='"*/:<>?\\|'),
        min_size=1,
        max_size=60,
    ),
)


def build(files: dict[str, bytes]) -> bytes:
    """A FAT with these files."""
    inputs = {name: fatwrite.Input(data, *fatwrite.stamp(EPOCH)) for name, data in files.items()}
    return fatwrite.build(inputs, epoch=EPOCH, where="test")


def contents(image: bytes) -> dict[str, bytes]:
    """All files of a FAT."""
    found = fat.read(image, "test")
    return {path: found.read(file) for path, file in found.files.items()}


def storable(name: str) -> bool:
    """Whether a FAT can have it."""
    try:
        fatnames.check(name, "test")
    except BootimgError:
        return False
    return True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.lists(
        st.lists(NAMES.filter(storable), min_size=1, max_size=3),
        max_size=25,
        unique_by=lambda path: path[0].casefold(),
    ),
    seed=st.integers(0, 1 << 16),
)
def test_every_file_comes_back_and_fsck_has_nothing_to_say(
    names: list[list[str]], seed: int
) -> None:
    noise = random.Random(seed)
    sizes = (0, 1, 511, 512, 513, 20_000)
    files = {"/".join(path): noise.randbytes(noise.choice(sizes)) for path in names}
    image = build(files)
    assert contents(image) == files
    assert build(dict(reversed(files.items()))) == image
    assert fat.read(image, "test").free_clusters >= fatwrite.FREE_CLUSTERS
    with tempfile.NamedTemporaryFile(suffix=".img") as file:
        Path(file.name).write_bytes(image)
        fsck(Path(file.name))


@pytest.mark.parametrize(
    ("clusters", "bits"),
    [
        *((count, 12) for count in (1, 3900, 3955, 3956)),
        *((count, 16) for count in (3957, 3958, 4085, 65395, 65396)),
        *((count, 32) for count in (65397, 65398, 65525, 70_000)),
    ],
)
def test_the_type_is_right_on_both_sides_of_its_limits(
    tmp_path: Path, clusters: int, bits: int
) -> None:
    files = {"a": bytes(512 * clusters)}
    image = tmp_path / "boot.img"
    image.write_bytes(build(files))
    fsck(image)
    found = fat.read(image.read_bytes(), "test")
    assert found.bits == bits
    assert found.read(found.files["a"]) == files["a"]
    assert mtools_names(image) == {"a"}


def test_mtools_reads_the_names_and_bytes(tmp_path: Path) -> None:
    files = {
        "config.txt": b"1",
        "UPPER.TXT": b"2",
        "Mixed.txt": b"3",
        "rootfs.cpio.zst": b"4" * 700,
        "overlays/a name with spaces and ä.dtbo": b"5",
        "overlays/rootfs.cpio.zst2": b"6",
        "overlays/rootfs.cpio.zst3": b"7",
    }
    image = tmp_path / "boot.img"
    image.write_bytes(build(files))
    assert mtools_names(image) == set(files)
    for name, data in files.items():
        said = subprocess.run(
            [program("mtype"), "-i", image, f"::/{name}"],
            capture_output=True,
            check=True,
            env={"LC_ALL": "C.UTF-8"},
        )
        assert said.stdout == data


def test_a_fragmented_image_of_others_is_read(tmp_path: Path) -> None:
    image = tmp_path / "other.img"
    subprocess.run(
        [program("mkfs.fat"), "-C", "-F", "12", "-s", "4", image, "1024"],
        check=True,
        capture_output=True,
    )
    noise = random.Random(3)
    expected: dict[str, bytes] = {}
    for turn in range(60):
        name = f"File number {turn}.bin"
        (tmp_path / "in").write_bytes(noise.randbytes(noise.randrange(20_000)))
        copy: list[str | Path] = [program("mcopy"), "-i", image, tmp_path / "in", f"::/{name}"]
        expected[name] = (tmp_path / "in").read_bytes()
        subprocess.run(copy, check=True)
        if turn % 3 != 0:
            gone = sorted(expected)[noise.randrange(len(expected))]
            subprocess.run([program("mdel"), "-i", image, f"::/{gone}"], check=True)
            del expected[gone]
    found = fat.read(image.read_bytes(), "other")
    assert any(len(file.runs) > 1 for file in found.files.values()), "nothing is fragmented"
    assert {path: found.read(file) for path, file in found.files.items()} == expected


def test_the_same_folder_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = boot_img(tmp_path).read_bytes()
    assert create.create(tmp_path / "source") == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    dated = create.create(tmp_path / "source")
    assert dated != first
    date, hms = fatwrite.stamp(EPOCH)
    assert {(file.date, file.time) for file in fat.read(dated, "x").files.values()} == {(date, hms)}


@pytest.mark.parametrize(
    "name", ["a\\b", "con", "x:y", "a" * 256, "dot.", "space ", "line\nfeed", "NUL.txt"]
)
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(BootimgError):
        build({name: b""})


def test_names_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(BootimgError, match="there twice"):
        build({"Readme": b"", "README": b""})


def hostile() -> dict[str, tuple[bytes, str]]:
    """Images that lie, and a word of what has to be said of each."""
    good = build({"one": b"1" * 2000, "two": b"2" * 2000, "d/three": b"3"})
    found = fat.read(good, "good")
    table_at = 512
    root_at = 512 + 2 * int.from_bytes(good[22:24], "little") * 512

    def entry(name: bytes) -> int:
        return good.index(name.ljust(11), root_at)

    def patched(at: int, data: bytes) -> bytes:
        return good[:at] + data + good[at + len(data) :]

    def next_of(cluster: int, value: int) -> bytes:
        at = table_at + cluster * 3 // 2
        pair = int.from_bytes(good[at : at + 2], "little")
        pair = pair & 0xF | value << 4 if cluster & 1 else pair & 0xF000 | value
        return patched(at, pair.to_bytes(2, "little"))

    one = int.from_bytes(good[entry(b"ONE") + 26 : entry(b"ONE") + 28], "little")
    two = int.from_bytes(good[entry(b"TWO") + 26 : entry(b"TWO") + 28], "little")
    folder_cluster = int.from_bytes(good[entry(b"D") + 26 : entry(b"D") + 28], "little")
    folder_at = good.index(b".".ljust(11), root_at)
    assert found.bits == 12
    return {
        "a chain in a loop": (next_of(one + 1, one), "loop"),
        "a chain that leads nowhere": (next_of(one, 0xEEE), "not there"),
        "a chain to a free cluster": (next_of(one, 0x000), "not there"),
        "two files in one cluster": (
            patched(entry(b"TWO") + 26, one.to_bytes(2, "little")),
            "another file",
        ),
        "a size beyond the chain": (patched(entry(b"ONE") + 28, b"\xff\xff\xff\xff"), "says"),
        "a size short of the chain": (patched(entry(b"ONE") + 28, b"\1\0\0\0"), "says"),
        "a directory in itself": (
            patched(folder_at + 64 + 11, b"\x10")[: folder_at + 64 + 26]
            + folder_cluster.to_bytes(2, "little")
            + good[folder_at + 64 + 28 :],
            "loop",
        ),
        "a name that leads out": (patched(entry(b"TWO"), b"../ETC  "), "name"),
        "a name with a slash": (patched(entry(b"TWO"), b"A/B"), "name"),
        "the same name twice": (patched(entry(b"TWO"), b"ONE"), "two files"),
        "cut off": (good[:-512], "cut off"),
        "cut off in the boot sector": (good[:300], "too few"),
        "no boot sector": (bytes(len(good)), "no boot sector"),
        "no sectors a cluster": (patched(13, b"\0"), "makes no sense"),
        "sectors of zero bytes": (patched(11, b"\0\0"), "boot sector"),
        "more sectors than there are": (patched(19, b"\xff\xff"), "cut off"),
        "a FAT of no length": (patched(22, b"\0\0"), "no room"),
        "a cluster that follows itself": (next_of(two, two), "loop"),
    }


HOSTILE = hostile()


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_an_image_that_lies_is_refused_with_a_sentence(kind: str) -> None:
    image, word = HOSTILE[kind]
    with pytest.raises(BootimgError, match=word):
        fat.read(image, "hostile.img")


@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 12_000), st.integers(0, 255)), min_size=1, max_size=30
    )
)
def test_a_damaged_image_raises_nothing_but_our_error(changes: list[tuple[int, int]]) -> None:
    image = bytearray(build({"one": b"1" * 2000, "long name.text": b"2", "d/e/f": b"3"}))
    for at, value in changes:
        image[at % len(image)] = value
    begin = time.process_time()
    try:
        found = fat.read(bytes(image), "damaged.img")
    except BootimgError:
        pass
    else:
        assert sum(file.size for file in found.files.values()) <= len(image)
    assert time.process_time() - begin < 5
