"""inspect, extract, bundle, create: what they say of an image, and what they leave behind."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootimg import bundle, cli, compression, cpio, create, fat, fatwrite, firmware, initramfs
from bootimg.errors import BootimgError
from tests.unit.bootimg.images import CHECKOUT, boot_img, folder, fsck, root, rpiboot_folder

Said = pytest.CaptureFixture[str]


def inspected(image: Path, capsys: Said, status: int = cli.DONE) -> dict[str, object]:
    """What inspect --json says."""
    capsys.readouterr()
    assert cli.main(["inspect", str(image), "--json"]) == status
    report: dict[str, object] = json.loads(capsys.readouterr().out)
    return report


def problems(report: dict[str, object]) -> str:
    """All problems in one text."""
    return json.dumps(report["problems"])


def test_inspect_says_what_is_inside(tmp_path: Path, capsys: Said) -> None:
    image = boot_img(tmp_path)
    report = inspected(image, capsys)
    assert report["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert report["gadgetd"] == {"version": "9.8.7", "configuration": None, "boards": []}
    assert report["kernel"] == {"file": "Image.gz", "bytes": 30_002, "format": "gzip"}
    assert [each["compression"] for each in report["initramfs"]] == ["zstd"]  # type: ignore[attr-defined]
    assert report["problems"] == []
    assert cli.main(["inspect", str(image)]) == cli.DONE
    said = capsys.readouterr().out
    assert "9.8.7" in said
    assert "nothing is wrong with it" in said


def test_the_version_is_read_from_byte_code_too() -> None:
    from bootimg.inspect import _version

    code = compile('"""Text."""\n\n__version__ = "0.12.3"\n', "x", "exec")
    import marshal

    assert _version("gadgetd/__init__.pyc", bytes(16) + marshal.dumps(code)) == "0.12.3"


def test_the_lock_and_the_signature_are_told(tmp_path: Path, capsys: Said) -> None:
    image = boot_img(tmp_path)
    locked = tmp_path / "locked.img"
    arguments = ["configure", str(image), "--for", "*1000", "*ab", "-o", str(locked)]
    assert cli.main(arguments) == cli.DONE
    (tmp_path / "boot.sig").write_text(f"{'0' * 64}\nts: 1\n")
    report = inspected(locked, capsys)
    assert report["gadgetd"]["boards"] == ["*1000", "*ab"]  # type: ignore[index]
    assert report["settings"] == {"boards": ["*1000", "*ab"]}
    assert "boot.sig beside it is for another image" in problems(report)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("kernel=none", "kernel=none is not in the image"),
        ("initramfs none", "initramfs none is not in the image"),
        ("dtoverlay=none,x=1", "overlays/none.dtbo is not in the image"),
        ("start_file=none.elf", "start_file=none.elf is not in the image"),
        ("start_file=start4cd.elf", "cannot be chosen this way"),
    ],
)
def test_what_would_not_boot_is_said(tmp_path: Path, capsys: Said, line: str, word: str) -> None:
    source = folder(tmp_path)
    with (source / "config.txt").open("a") as file:
        file.write(f"{line}\n")
    image = tmp_path / "boot.img"
    image.write_bytes(create.create(source))
    assert word in problems(inspected(image, capsys, cli.NO))


def test_a_large_image_is_warned_of_and_a_very_large_one_refused(
    tmp_path: Path, capsys: Said
) -> None:
    source = folder(tmp_path)
    image = tmp_path / "boot.img"
    for mib, status, word in ((21, cli.DONE, "sent over USB"), (97, cli.NO, "96 MiB at most")):
        (source / "large").write_bytes(bytes(mib << 20))
        image.write_bytes(create.create(source))
        assert word in problems(inspected(image, capsys, status))


def test_extract_gives_the_files_back(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    image = boot_img(tmp_path)
    assert cli.main(["extract", str(image), "-o", str(tmp_path / "out")]) == cli.DONE
    expected = create.folder(tmp_path / "source")
    assert create.folder(tmp_path / "out") == expected
    assert cli.main(["extract", str(image), "CONFIG.TXT", "-o", "-"]) == cli.DONE
    assert capsysbinary.readouterr().out == expected["config.txt"]
    assert cli.main(["extract", str(image), "-o", str(tmp_path / "out")]) == cli.FAILED
    assert cli.main(["extract", str(image), "none"]) == cli.FAILED
    assert cli.main(["extract", str(image)]) == cli.USAGE


@pytest.mark.parametrize("kind", ["folder", "image", "zip"])
def test_bundle_makes_the_folder_for_rpiboot(tmp_path: Path, kind: str, capsys: Said) -> None:
    source = rpiboot_folder(tmp_path / "gadgetd")
    given = {"folder": source, "image": source / "boot.img", "zip": tmp_path / "r.zip"}[kind]
    if kind == "zip":
        with zipfile.ZipFile(given, "w") as archive:
            for path in source.iterdir():
                if path.is_file():
                    archive.write(path, f"gadgetd-1.0/{path.name}")
    key = CHECKOUT / "tests/data/bootimg/throw-away-private.pem"
    out = tmp_path / "out"
    arguments = ["bundle", str(given), "-o", str(out), "--for", "*1000", "--key", str(key)]
    assert cli.main(arguments) == cli.DONE
    lines = (out / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {path.name for path in out.iterdir()} - {"SHA256SUMS"}
    assert {"boot.img", "boot.sig", "bootfiles.bin", "bootcode4.bin", "config.txt"} < set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    listed = json.loads((out / "manifest.json").read_text())["files"]
    assert listed["boot.img"]["sha256"] == sums["boot.img"]
    assert "boot.img/Image.gz" not in listed
    fsck(out / "boot.img")
    public = key.with_name("throw-away-public.pem")
    assert cli.main(["verify", str(out / "boot.img"), "--pubkey", str(public)]) == cli.DONE
    assert inspected(out / "boot.img", capsys)["gadgetd"]["boards"] == ["*1000"]  # type: ignore[index]
    assert cli.main(arguments) == cli.FAILED, "the folder is there already"


@pytest.mark.parametrize("gone", ["config.txt", "boot.img"])
def test_a_bundle_lacks_nothing(tmp_path: Path, gone: str, capsys: Said) -> None:
    source = rpiboot_folder(tmp_path / "gadgetd")
    (source / gone).unlink()
    assert cli.main(["bundle", str(source), "-o", str(tmp_path / "out")]) == cli.FAILED
    assert gone in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.part").exists()


def test_create_runs_on_the_standard_library_alone(tmp_path: Path) -> None:
    source, image = folder(tmp_path), tmp_path / "boot.img"
    program = (
        "import sys; sys.path[:0] = sys.argv[1:2]; from bootimg.cli import main;"
        "sys.exit(main(['create', *sys.argv[2:]]))"
    )
    # -S: without site-packages, so without cryptography, rich, zstandard and PyYAML.
    command: list[str | Path] = [
        sys.executable,
        "-I",
        "-S",
        "-B",
        "-c",
        program,
        CHECKOUT,
        source,
        "-o",
        image,
    ]
    subprocess.run(command, check=True)
    assert image.read_bytes() == create.create(source)


def test_create_refuses_what_a_fat_cannot_have(tmp_path: Path, capsys: Said) -> None:
    source = folder(tmp_path)
    (source / "link").symlink_to("config.txt")
    assert cli.main(["create", str(source), "-o", str(tmp_path / "x")]) == cli.FAILED
    assert "link: neither file nor folder" in capsys.readouterr().err
    assert cli.main(["create", str(tmp_path / "none"), "-o", str(tmp_path / "x")]) == cli.FAILED


def test_an_initramfs_is_read_as_the_kernel_does() -> None:
    first = cpio.archive([cpio.file("a", b"1"), cpio.file("b", b"1")])
    second = gzip.compress(cpio.archive([cpio.file("b", b"2")]))
    data = initramfs.append(first + bytes(8) + second, [cpio.file("c", b"3")])
    assert initramfs.files(data, "abc", "x") == {"a": b"1", "b": b"2", "c": b"3"}


@settings(max_examples=200, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1))
def test_a_damaged_initramfs_raises_nothing_but_our_error(changes: list[tuple[int, int]]) -> None:
    for pack in (bytes, gzip.compress):
        data = bytearray(pack(root())[:4000])
        for at, value in changes:
            data[at % len(data)] = value
        with contextlib.suppress(BootimgError):
            list(initramfs.entries(bytes(data), "x"))


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2"])
def test_what_unfolds_without_end_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import bz2
    import lzma

    import zstandard

    pack = {
        "gzip": gzip.compress,
        "zstd": zstandard.ZstdCompressor().compress,
        "xz": lzma.compress,
        "bzip2": bz2.compress,
    }[name]
    monkeypatch.setattr(compression, "MAX_BYTES", 1 << 20)
    with pytest.raises(BootimgError, match="more than 1 MiB"):
        compression.unfold(pack(bytes(20 << 20)), 0, 1 << 20, "x")
    data = b"before" + pack(b"text" * 9999) + b"\0after"
    whole, end = compression.unfold(data, 6, 1 << 20, "x")
    assert (whole, data[end:]) == (b"text" * 9999, b"\0after")
    with pytest.raises(BootimgError, match="damaged"):
        compression.unfold(pack(bytes(1000))[:-9], 0, 1 << 20, "x")
    # Several of them together are no more than one.
    several = pack(cpio.archive([cpio.file("a", bytes(300 << 10))])) * 4
    with pytest.raises(BootimgError, match="more than 1 MiB"):
        list(initramfs.entries(several, "x"))


def test_gadgetds_modules_are_known_in_one_place() -> None:
    pattern = re.compile(r"^\s*(from|import) (gadgetd|emulator)\b", re.MULTILINE)
    users = {p.name for p in (CHECKOUT / "bootimg").glob("*.py") if pattern.search(p.read_text())}
    assert users == {"checker.py"}


@contextlib.contextmanager
def in_time(seconds: int, timer: int = signal.ITIMER_REAL) -> Iterator[None]:
    """AssertionError if what is done takes longer: it waits for what never comes.

    By ITIMER_PROF only the processor's time counts, of which others on the machine take none.
    """
    ends = {signal.ITIMER_REAL: signal.SIGALRM, signal.ITIMER_PROF: signal.SIGPROF}[timer]

    def late(*_: object) -> None:
        raise AssertionError(f"took longer than {seconds} s")

    before = signal.signal(ends, late)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(ends, before)


def test_a_named_pipe_is_no_image_and_is_not_waited_for(tmp_path: Path, capsys: Said) -> None:
    os.mkfifo(tmp_path / "pipe")
    with in_time(5):
        assert cli.main(["inspect", str(tmp_path / "pipe")]) == cli.FAILED
    assert "not a regular file" in capsys.readouterr().err


def test_what_is_no_file_is_not_written_over(tmp_path: Path, capsys: Said) -> None:
    image = boot_img(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    arguments = ["configure", str(image), "--hostname", "x", "-o", str(tmp_path / "pipe")]
    with in_time(20):
        assert cli.main(arguments) == cli.FAILED
    assert "no file" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()


def test_what_is_written_over_keeps_its_permissions(tmp_path: Path) -> None:
    image = boot_img(tmp_path)
    image.chmod(0o600)
    assert cli.main(["configure", str(image), "--hostname", "x", "--in-place"]) == cli.DONE
    assert stat.S_IMODE(image.stat().st_mode) == 0o600


def test_a_file_is_not_extracted_over_the_image_nor_over_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = boot_img(tmp_path)
    before = image.read_bytes()
    assert cli.main(["extract", str(image), "config.txt", "-o", str(image)]) == cli.FAILED
    assert image.read_bytes() == before
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.txt").write_text("precious")
    assert cli.main(["extract", str(image), "config.txt"]) == cli.FAILED
    assert (tmp_path / "config.txt").read_text() == "precious"


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_no_part_of_a_folder(
    tmp_path: Path, there: bool, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    image, out = boot_img(tmp_path), tmp_path / "out"
    if there:
        out.mkdir()
    before = {path.name for path in tmp_path.iterdir()}
    written = 0

    def full_after_three(descriptor: int) -> None:
        nonlocal written
        written += stat.S_ISREG(os.fstat(descriptor).st_mode)
        if written > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full_after_three)
    assert cli.main(["extract", str(image), "-o", str(out)]) == cli.FAILED
    assert written == 4
    assert {path.name for path in tmp_path.iterdir()} == before
    assert not there or not list(out.iterdir())
    said = capsys.readouterr().err
    assert "No space left" in said
    assert f"{out}/" in said


def test_nothing_is_extracted_into_the_folder_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, here = boot_img(tmp_path), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert cli.main(["extract", str(image), "-o", "."]) == cli.FAILED
    assert here.is_dir()


def test_a_folder_that_cannot_be_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    source, out = folder(tmp_path), tmp_path / "x.img"
    scandir = os.scandir

    def refusing(path: str | Path) -> object:
        if str(path).endswith("overlays"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    assert cli.main(["create", str(source), "-o", str(out)]) == cli.FAILED
    assert "overlays: cannot be read" in capsys.readouterr().err
    assert not out.exists()


def test_no_image_is_made_that_would_not_be_read(tmp_path: Path, capsys: Said) -> None:
    deep = folder(tmp_path).joinpath(*"d" * 17)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    out = str(tmp_path / "x")
    assert cli.main(["create", str(tmp_path / "source"), "-o", out]) == cli.FAILED
    assert "folders in one another" in capsys.readouterr().err
    (deep / "file").rename(deep.parent / "file")
    deep.rmdir()
    assert cli.main(["create", str(tmp_path / "source"), "-o", out]) == cli.DONE
    assert cli.main(["inspect", out]) == cli.DONE


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=20),
    gone=st.integers(0, 200),
)
def test_a_damaged_zip_raises_nothing_but_our_error(
    method: int, changes: list[tuple[int, int]], gone: int
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name in ("boot.img", "config.txt", "bootfiles.bin"):
            archive.writestr(f"r/{name}", b"boot_ramdisk=1\n" * 30)
    data = bytearray(packed.getvalue()[: len(packed.getvalue()) - gone])
    for at, value in changes:
        data[at % len(data)] = value
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        Path(file.name).write_bytes(data)
        with contextlib.suppress(BootimgError):
            bundle.read(Path(file.name))


@pytest.mark.parametrize(
    ("magic", "name"), [(b"\x02\x21\x4c\x18", "lz4"), (b"\x89LZO\x00\x0d\x0a\x1a\x0a", "lzo")]
)
def test_an_initramfs_that_cannot_be_looked_into_is_told_of_in_words(
    tmp_path: Path, magic: bytes, name: str, capsys: Said
) -> None:
    image = boot_img(tmp_path, magic + bytes(range(256)) * 8)
    report = inspected(image, capsys)
    assert [each["compression"] for each in report["initramfs"]] == [name]  # type: ignore[attr-defined]
    assert report["gadgetd"] is None
    assert f"{name} cannot be looked into" in problems(report)
    assert cli.main(["inspect", str(image)]) == cli.DONE
    said = capsys.readouterr().out
    assert f"{name} cannot be looked into" in said
    assert "not in it" not in said, "nobody knows"
    arguments = ["configure", str(image), "--hostname", "x", "-o", str(tmp_path / "x")]
    assert cli.main(arguments) == cli.FAILED
    assert "zstd, gzip or xz" in capsys.readouterr().err


def test_a_program_that_reads_it_finds_the_digest_in_one_line(tmp_path: Path) -> None:
    image = boot_img(tmp_path)
    command = [sys.executable, "-m", "bootimg", "inspect", str(image)]
    said = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, check=True, text=True, env={"COLUMNS": "40"}
    )
    assert hashlib.sha256(image.read_bytes()).hexdigest() in said.stdout


def test_nothing_of_an_image_steers_the_terminal(tmp_path: Path, capsys: Said) -> None:
    escape, name = "\x1b[2J\x9b31m\x07", "a\x9b31mb\u202e.txt"
    source = folder(tmp_path, cpio.archive([
        cpio.directory("etc"),
        cpio.file("usr/bin/gadgetd", b"", 0o755),
        cpio.file("etc/gadgetd.yaml", f"# {escape}\nslots: 1\n".encode()),
    ]))  # fmt: skip
    (source / name).write_text("x")
    with (source / "config.txt").open("a") as file:
        file.write(f"kernel={escape}\ndtoverlay={escape}\n")
    image = tmp_path / "boot.img"
    data = bytearray(create.create(source))
    at = data.index(b"BOOT       \x08")
    data[at : at + 4] = b"\x1b[2J"
    image.write_bytes(data)
    assert cli.main(["inspect", str(image)]) == cli.NO
    assert cli.main(["inspect", str(image), "--json"]) == cli.NO
    out = tmp_path / "out.img"
    arguments = ["configure", str(image), "--cmdline-add", "x", "-o", str(out)]
    assert cli.main(arguments) == cli.FAILED
    assert cli.main([*arguments, "--force"]) == cli.DONE
    said = capsys.readouterr()
    assert "\\x1b[2J" in said.out
    assert "\\x1b[2J" in said.err
    for text in (said.out, said.err):
        assert all(letter.isprintable() or letter == "\n" for letter in text)


def many_alike() -> None:
    create_of({f"d/averylongname{number:05}.text": b"" for number in range(12_000)})


def many_overlays() -> None:
    files = {f"overlays/n{number}.x": b"" for number in range(16_000)}
    lines = b"".join(b"dtoverlay=q%d\n" % number for number in range(16_000))
    image = create_of({**files, "config.txt": lines, "start4.elf": b"x"})
    found = fat.read(image, "x")
    assert len(firmware.problems(found, firmware.plan(lines))) > 10_000


def many_archives() -> None:
    with pytest.raises(BootimgError, match="more than 1000 archives"):
        list(initramfs.entries(gzip.compress(b"") * 200_000, "x"))


def one_directory_everywhere() -> None:
    clusters = 1 << 18
    image = bytearray(create_of({"a": bytes(512 * clusters)}))
    table, first = 32 * 512, (32 + 2 * int.from_bytes(image[36:40], "little")) * 512
    chain = [*range(3, clusters + 2), 0x0FFFFFFF]
    image[table + 8 : table + 8 + 4 * clusters] = struct.pack(f"<{clusters}I", *chain)
    image[first : first + 512 * clusters] = b"\xe5" * (512 * clusters)
    with pytest.raises(BootimgError, match="larger than a directory"):
        fat.read(bytes(image), "x")


def create_of(files: dict[str, bytes]) -> bytes:
    """A FAT with these files."""
    inputs = {name: fatwrite.Input(data, *fatwrite.stamp(0)) for name, data in files.items()}
    return fatwrite.build(inputs, epoch=0, where="x")


@pytest.mark.parametrize(
    "work", [many_alike, many_overlays, many_archives, one_directory_everywhere]
)
def test_what_is_large_takes_no_more_than_its_time(work: Callable[[], None]) -> None:
    # Each took more than twice that before its length was bounded.
    with in_time(15, signal.ITIMER_PROF):
        work()


def test_a_folder_with_more_entries_than_a_fat_can_have_is_refused() -> None:
    with pytest.raises(BootimgError, match="more files in one folder"):
        create_of({f"d/{number:05}{'x' * 240}": b"" for number in range(3_300)})


def test_a_signal_while_a_file_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = boot_img(tmp_path)
    real = os.open

    def signalled(path: str | Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real(path, flags, mode)
        if flags & os.O_CREAT:
            os.kill(os.getpid(), signal.SIGTERM)
        return descriptor

    monkeypatch.setattr("os.open", signalled)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(SystemExit) as caught:
        cli.main(["extract", str(image), "config.txt", "-o", str(tmp_path / "out")])
    assert caught.value.code == 128 + signal.SIGTERM
    assert {path.name for path in tmp_path.iterdir()} == before
