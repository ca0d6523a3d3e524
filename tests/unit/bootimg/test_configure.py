"""configure: what is set is in the image, and --reset gives back the bytes there were."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootimg import cli, configure, fat, initramfs, record
from bootimg.errors import BootimgError
from bootimg.record import Settings
from tests.unit.bootimg.images import boot_img, fsck, mtools_names, program, root

SERIAL = "10000000a1b2c3d4"
HASH = "$6$gadgetd$" + "a" * 86
EVERYTHING = Settings(
    config="disks:\n  - kind: nvme\n    read_only: true\n",
    cmdline_add="quiet",
    hostname="bench-1",
    no_login=True,
    config_txt=(("uart_2ndstage", "0"),),
)


def board_files(image: bytes, *names: str) -> dict[str, str]:
    """Files of the board's root, as the kernel has them in the end."""
    found = fat.read(image, "test")
    file = found.find("rootfs.cpio.zst")
    assert file
    there = initramfs.files(found.read(file), names, "test")
    return {name: data.decode() for name, data in there.items()}


def text(image: bytes, name: str) -> str:
    """A file of the FAT."""
    found = fat.read(image, "test")
    return found.read(found.files[name]).decode()


def apply(original: bytes, given: Settings) -> bytes:
    """The image with these settings."""
    return configure.apply(original, given, "boot.img", 0)


def test_everything_that_is_set_is_in_the_image(tmp_path: Path) -> None:
    path = boot_img(tmp_path)
    before = path.read_bytes()
    image = apply(before, EVERYTHING)
    names = ("etc/gadgetd.yaml", "etc/hostname", "etc/inittab", "etc/passwd", "etc/issue")
    there = board_files(image, *names)
    assert there["etc/gadgetd.yaml"] == EVERYTHING.config
    assert there["etc/hostname"] == "bench-1\n"
    assert "getty" not in there["etc/inittab"]
    assert "::respawn:/usr/bin/gadgetd run\n" in there["etc/inittab"]
    assert "::sysinit:/etc/init.d/rcS\n" in there["etc/inittab"]
    assert there["etc/passwd"] == "root:!:0:0:root:/root:/bin/sh\n"
    assert "no password" not in there["etc/issue"]
    assert text(image, "cmdline.txt") == text(before, "cmdline.txt").strip() + " quiet\n"
    assert text(image, "config.txt").endswith("\nuart_2ndstage=0\n")
    path.write_bytes(image)
    fsck(path)
    assert mtools_names(path) == {*fat.read(before, "x").files, record.NAME}


def test_the_archive_begins_where_the_kernel_looks_for_it(tmp_path: Path) -> None:
    for extra in range(4):
        packed = gzip.compress(root() + bytes(extra), mtime=0) + bytes(extra)
        top = tmp_path / str(extra)
        top.mkdir()
        image = apply(boot_img(top, packed).read_bytes(), Settings(hostname="x"))
        found = fat.read(image, "test")
        data = found.read(found.files["rootfs.cpio.zst"])
        assert data.startswith(packed)
        assert data.index(b"070701", len(packed)) % 4 == 0


def test_reset_gives_back_every_byte(tmp_path: Path) -> None:
    before = boot_img(tmp_path).read_bytes()
    once = apply(before, EVERYTHING)
    settings_once, original = configure.split(once, "once")
    assert original == before
    assert settings_once == EVERYTHING
    twice = apply(original, Settings(hostname="other").over(settings_once))
    assert configure.split(twice, "twice")[1] == before
    assert board_files(twice, "etc/hostname")["etc/hostname"] == "other\n"
    assert board_files(twice, "etc/gadgetd.yaml")["etc/gadgetd.yaml"] == EVERYTHING.config


def test_configured_again_there_is_one_archive_as_if_it_were_the_first_time(
    tmp_path: Path,
) -> None:
    before = boot_img(tmp_path).read_bytes()
    first = apply(before, EVERYTHING)
    given, original = configure.split(first, "first")
    assert apply(original, EVERYTHING.over(given)) == first


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), cluster=st.sampled_from([1, 2, 8]))
def test_an_image_of_others_is_given_back_too(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cluster: int
) -> None:
    top = tmp_path_factory.mktemp("others")
    ours, image = boot_img(top), top / "other.img"
    make: list[str | Path] = [
        program("mkfs.fat"),
        "-C",
        "-s",
        str(cluster),
        "-n",
        "OTHER",
        image,
        "2048",
    ]
    subprocess.run(make, check=True, capture_output=True)
    data = bytearray(image.read_bytes())
    # Whatever an older file system has left in clusters that are free.
    data[-5000:] = (str(seed).encode() * 5000)[:5000]
    image.write_bytes(data)
    for path in sorted((ours.parent / "source").iterdir()):
        copy: list[str | Path] = [program("mcopy"), "-s", "-i", image, path, "::/"]
        subprocess.run(copy, check=True)
    before = image.read_bytes()
    after = apply(before, EVERYTHING)
    assert configure.split(after, "other")[1] == before
    assert fat.read(after, "other").label == "OTHER"
    image.write_bytes(after)
    fsck(image)


def test_a_file_changed_after_it_is_not_given_back_wrongly(tmp_path: Path) -> None:
    path = boot_img(tmp_path)
    path.write_bytes(apply(path.read_bytes(), EVERYTHING))
    (tmp_path / "new").write_bytes(b"other" * 2000)
    copy: list[str | Path] = [program("mcopy"), "-o", "-i", path, tmp_path / "new", "::/start4.elf"]
    subprocess.run(copy, check=True)
    with pytest.raises(BootimgError, match=r"changed since|damaged"):
        configure.split(path.read_bytes(), "boot.img")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (Settings(config="disks: many\n"), "gadgetd.yaml:1:8"),
        (Settings(hostname="-x"), "--hostname"),
        (Settings(cmdline="two\nlines"), "--cmdline"),
        (Settings(root_password="secret"), "openssl passwd"),
        (Settings(root_password="$6$gadgetd$short"), "openssl passwd"),
        (Settings(root_password=HASH, no_login=True), "one or the other"),
        (Settings(config="usb:\n  acm: true\n", no_login=True), "acm"),
        (Settings(config_txt=(("initramfs", "x"),)), "--config-txt"),
        (Settings(config_txt=(("ramfsfile", "fixup4.dat"),)), "would not be in what is loaded"),
        (Settings(config_txt=(("cmdline", "config.txt"),)), "would not be in what is loaded"),
        (Settings(config_txt=(("a", "b" * 99),)), "98 characters"),
        (Settings(config=f"boards: '{SERIAL}'\n", boards=(SERIAL,)), "boards: of its own"),
        (Settings(config="boards: '10000000A1B2C3D4'\n"), "fits no board"),
        (Settings(config="{slots: 1}\n", boards=(SERIAL,)), "boards: cannot follow it"),
        (Settings(config="slots: 1\n...\n", boards=(SERIAL,)), "boards: cannot follow it"),
        (Settings(boards=("a1b2c3d4",)), "no board's serial number"),
        (Settings(cmdline=""), "--cmdline: not one line of 1 to"),
        (Settings(cmdline_add=""), "--cmdline-add: not one line of 1 to"),
        (Settings(cmdline_add="x" * 1000), "longer than 1024 characters"),
    ],
)
def test_what_cannot_be_set_is_refused(tmp_path: Path, given: Settings, word: str) -> None:
    image = boot_img(tmp_path).read_bytes()
    with pytest.raises(BootimgError) as caught:
        apply(image, given)
    assert word in f"{caught.value.message} {caught.value.hint}"


def test_a_password_is_roots_and_is_never_shown(tmp_path: Path) -> None:
    image = apply(boot_img(tmp_path).read_bytes(), Settings(root_password=HASH))
    assert board_files(image, "etc/passwd")["etc/passwd"].startswith(f"root:{HASH}:0:0:")
    assert "getty" in board_files(image, "etc/inittab")["etc/inittab"]
    assert configure.shown(configure.split(image, "x")[0]) == {"root_password": "set"}


def test_a_lock_is_added_to_the_configuration(tmp_path: Path) -> None:
    boards = (SERIAL, "*0001")
    image = apply(
        boot_img(tmp_path).read_bytes(), Settings(config=EVERYTHING.config, boards=boards)
    )
    there = board_files(image, "etc/gadgetd.yaml")["etc/gadgetd.yaml"]
    assert there.startswith(str(EVERYTHING.config).rstrip())
    assert there.endswith('\nboards:\n  - "10000000a1b2c3d4"\n  - "*0001"\n')


def test_an_image_without_gadgetd_takes_no_configuration(tmp_path: Path) -> None:
    from bootimg import cpio

    image = boot_img(tmp_path, cpio.archive([cpio.directory("etc")])).read_bytes()
    with pytest.raises(BootimgError, match="no gadgetd"):
        apply(image, Settings(hostname="x"))
    assert "quiet" in text(apply(image, Settings(cmdline_add="quiet")), "cmdline.txt")


def test_the_command_changes_the_input_only_in_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = boot_img(tmp_path)
    before = image.read_bytes()
    arguments = ["configure", str(image), "--hostname", "x"]
    assert cli.main(arguments) == cli.USAGE
    assert cli.main([*arguments, "-o", str(image)]) == cli.FAILED
    assert image.read_bytes() == before
    assert cli.main([*arguments, "--in-place"]) == cli.DONE
    assert image.read_bytes() != before
    capsys.readouterr()
    assert cli.main(["configure", str(image), "--show"]) == cli.DONE
    assert json.loads(capsys.readouterr().out) == {"hostname": "x"}
    assert cli.main(["configure", str(image), "--reset", "--in-place"]) == cli.DONE
    assert image.read_bytes() == before


def test_what_would_not_boot_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = boot_img(tmp_path), tmp_path / "out.img"
    arguments = ["configure", str(image), "--config-txt", "kernel=none.img", "-o", str(out)]
    assert cli.main(arguments) == cli.FAILED
    assert "kernel=none.img is not in the image" in capsys.readouterr().err
    assert not out.exists()
    assert cli.main([*arguments, "--force"]) == cli.DONE
    assert out.exists()


def configured(top: Path, *arguments: str) -> bytes:
    """The image that the command makes of the first one, in several steps divided by "then"."""
    image, out = boot_img(top), top / "out.img"
    step = ["configure", str(image), "-o", str(out)]
    for argument in (*arguments, "then"):
        if argument == "then":
            assert cli.main(step) == cli.DONE
            step = ["configure", str(out), "--in-place"]
        else:
            step.append(argument)
    return out.read_bytes()


def test_a_key_of_config_txt_may_be_there_more_than_once(tmp_path: Path) -> None:
    lines = ("dtparam=ant2", "dtparam=audio=on", "uart_2ndstage=0")
    given = [word for line in lines for word in ("--config-txt", line)]
    image = configured(tmp_path, *given, "then", "--config-txt", "uart_2ndstage=1")
    added = ("dtparam=ant2", "dtparam=audio=on", "uart_2ndstage=1")
    assert text(image, "config.txt").endswith("\n" + "\n".join(added) + "\n")
    settings_there, _ = configure.split(image, "x")
    assert configure.shown(settings_there) == {"config_txt": list(added)}


def test_a_key_given_again_later_ends_all_its_earlier_lines(tmp_path: Path) -> None:
    image = configured(
        tmp_path, *("--config-txt", "dtparam=a=1", "--config-txt", "dtparam=b=1", "then"),
        *("--config-txt", "dtparam=c=1"),
    )  # fmt: skip
    assert "dtparam=a=1" not in text(image, "config.txt")
    assert text(image, "config.txt").endswith("\ndtparam=c=1\n")


@pytest.mark.parametrize(
    ("later", "line"),
    [
        (("--hostname", "x"), "from=one add=one"),
        (("--cmdline-add", "add=two"), "from=one add=two"),
        (("--cmdline", "from=two"), "from=two"),
    ],
)
def test_a_later_command_line_leaves_what_it_does_not_speak_of(
    tmp_path: Path, later: tuple[str, ...], line: str
) -> None:
    before = ("--cmdline", "from=one", "--cmdline-add", "add=one", "then")
    assert text(configured(tmp_path, *before, *later), "cmdline.txt") == f"{line}\n"


@pytest.mark.parametrize("option", ["--cmdline", "--cmdline-add"])
def test_an_empty_command_line_changes_nothing(tmp_path: Path, option: str) -> None:
    configured(tmp_path, "--cmdline-add", "quiet")
    out = tmp_path / "out.img"
    before = out.read_bytes()
    assert cli.main(["configure", str(out), option, "", "--in-place"]) == cli.FAILED
    assert out.read_bytes() == before


def test_a_serial_number_is_taken_as_boards_have_it(tmp_path: Path) -> None:
    image = configured(tmp_path, "--for", " 10000000A1B2C3D4 ", "--for=*0001")
    assert configure.split(image, "x")[0].boards == (SERIAL, "*0001")


def test_the_image_may_stand_behind_the_serial_numbers(tmp_path: Path) -> None:
    image, out = boot_img(tmp_path), tmp_path / "out.img"
    arguments = ["configure", "--for", SERIAL, "*0001", str(image), "-o", str(out)]
    assert cli.main(arguments) == cli.DONE
    assert configure.split(out.read_bytes(), "x")[0].boards == (SERIAL, "*0001")


@pytest.mark.parametrize("serial", ["", "a1b2c3d4", "0x10000000a1b2c3d4", "*xyz", "*" + "0" * 17])
def test_what_no_board_can_be_called_is_no_lock(
    tmp_path: Path, serial: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = boot_img(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(["configure", str(image), "--for", serial, "-o", str(tmp_path / "out.img")])
    assert caught.value.code == cli.USAGE
    assert "no board's serial number" in capsys.readouterr().err


def test_a_lock_that_was_set_before_is_named_when_the_file_has_one_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(tmp_path, "--for", SERIAL)
    (tmp_path / "my.yaml").write_text("boards: '*0001'\n")
    out = str(tmp_path / "out.img")
    arguments = ["configure", out, "--config", str(tmp_path / "my.yaml"), "--in-place"]
    assert cli.main(arguments) == cli.FAILED
    assert "--reset ends an earlier --for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--show", "--hostname", "x"), "--hostname"),
        (("--show", "--reset"), "--reset"),
        (("--show", "-o", "x"), "--output"),
        (("--show", "--in-place"), "--in-place"),
        (("--reset", "--for", SERIAL, "--in-place"), "--for"),
        (("--in-place",), "nothing to set"),
    ],
)
def test_no_option_is_ignored(
    tmp_path: Path, arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = boot_img(tmp_path)
    before = image.read_bytes()
    assert cli.main(["configure", str(image), *arguments]) == cli.USAGE
    assert word in capsys.readouterr().err
    assert image.read_bytes() == before


def test_the_configuration_is_not_written_over(tmp_path: Path) -> None:
    image, config = boot_img(tmp_path), tmp_path / "my.yaml"
    config.write_text("slots: 1\n")
    arguments = ["configure", str(image), "--config", str(config), "-o", str(config)]
    assert cli.main(arguments) == cli.FAILED
    assert config.read_text() == "slots: 1\n"
