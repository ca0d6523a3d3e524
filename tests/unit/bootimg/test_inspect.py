"""inspect, extract, bundle, create: what they say of an image, and what they leave behind."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootimg import cli, compression, cpio, create, initramfs
from bootimg.errors import BootimgError
from tests.unit.bootimg.images import BOARD, CHECKOUT, boot_img, folder, fsck, root

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
    arguments = ["configure", str(image), "--for", "1000", "*ab", "-o", str(locked)]
    assert cli.main(arguments) == cli.DONE
    (tmp_path / "boot.sig").write_text(f"{'0' * 64}\nts: 1\n")
    report = inspected(locked, capsys)
    assert report["gadgetd"]["boards"] == ["1000", "*ab"]  # type: ignore[index]
    assert report["settings"] == {"boards": ["1000", "*ab"]}
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


def rpiboot_folder(top: Path) -> Path:
    """What make image leaves."""
    top.mkdir()
    boot_img(top)
    for name in ("bootfiles.bin", "bootcode4.bin"):
        (top / name).write_bytes(name.encode())
    (top / "config.txt").write_bytes((BOARD / "rpiboot.txt").read_bytes())
    entry = {"bytes": 1, "sha256": "0"}
    listed = {"boot.img": entry, "boot.img/Image.gz": entry, "config.txt": entry}
    (top / "manifest.json").write_text(json.dumps({"files": listed, "packages": {}}))
    return top


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
    arguments = ["bundle", str(given), "-o", str(out), "--for", "1000", "--key", str(key)]
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
    assert inspected(out / "boot.img", capsys)["gadgetd"]["boards"] == ["1000"]  # type: ignore[index]
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
        compression.unfold(pack(bytes(20 << 20)), "x")
    whole, rest = compression.unfold(pack(b"text") + b"\0after", "x")
    assert (whole, rest) == (b"text", b"\0after")
    with pytest.raises(BootimgError):
        compression.unfold(pack(bytes(1000))[:-9], "x")


def test_gadgetds_modules_are_known_in_one_place() -> None:
    pattern = re.compile(r"^\s*(from|import) (gadgetd|emulator)\b", re.MULTILINE)
    users = {p.name for p in (CHECKOUT / "bootimg").glob("*.py") if pattern.search(p.read_text())}
    assert users == {"checker.py"}
