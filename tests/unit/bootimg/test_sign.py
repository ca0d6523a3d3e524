"""boot.sig: the bytes that Raspberry Pi's own tool writes, and keys that are left alone."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootimg import cli
from tests.unit.bootimg.images import CHECKOUT, boot_img

DATA = CHECKOUT / "tests/data/bootimg"
PRIVATE, PUBLIC = DATA / "throw-away-private.pem", DATA / "throw-away-public.pem"
EPOCH = "1781643700"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A boot.img."""
    return boot_img(tmp_path)


def run(*arguments: object) -> int:
    """Run the command; argparse's own end counts too."""
    return cli.main([str(each) for each in arguments])


def wrapper(top: Path, script: str) -> Path:
    """An HSM's program."""
    path = top / "wrapper"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_known_key_and_time_give_the_known_signature() -> None:
    from bootimg import sign

    content = b"gadgetd\n" * 1000
    signature, _ = sign.with_key(content, PRIVATE, lambda: b"")
    known = (DATA / "known.sig").read_bytes()
    assert sign.text(content, int(EPOCH), signature) == known
    assert sign.check(content, known, sign.public_key(PUBLIC)) == ""


def test_what_is_signed_verifies_and_what_is_changed_does_not(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sign", image, "--key", PRIVATE) == cli.DONE
    assert run("verify", image, "--pubkey", PUBLIC) == cli.DONE
    data = bytearray(image.read_bytes())
    data[-1] ^= 1
    image.write_bytes(data)
    assert run("verify", image, "--pubkey", PUBLIC) == cli.NO
    assert "another image" in capsys.readouterr().err


def test_another_key_does_not_verify(image: Path, tmp_path: Path) -> None:
    assert run("keygen", "-o", tmp_path / "k.pem", "--public", tmp_path / "p.pem") == cli.DONE
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert run("sign", image, "--key", PRIVATE) == cli.DONE
    assert run("verify", image, "--pubkey", tmp_path / "p.pem") == cli.NO


def test_a_key_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "k.pem").write_text("precious")
    assert run("keygen", "-o", tmp_path / "k.pem", "--public", tmp_path / "p.pem") == cli.FAILED
    assert (tmp_path / "k.pem").read_text() == "precious"


def test_the_public_half_of_a_key_is_the_public_key(tmp_path: Path) -> None:
    assert run("keygen", "--of", PRIVATE, "--public", tmp_path / "p.pem") == cli.DONE
    assert (tmp_path / "p.pem").read_bytes() == PUBLIC.read_bytes()


@pytest.mark.parametrize("bits", [1024, 3072])
def test_a_key_of_another_size_is_refused(
    image: Path, tmp_path: Path, bits: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "k.pem").write_bytes(pem)
    assert run("sign", image, "--key", tmp_path / "k.pem") == cli.FAILED
    assert "2048 bits" in capsys.readouterr().err
    assert not image.with_name("boot.sig").exists()


def test_a_file_that_is_no_key_is_not_told_of(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = PRIVATE.read_text().splitlines()
    (tmp_path / "k.pem").write_text("\n".join(lines[:3] + lines[5:]))
    assert run("sign", image, "--key", tmp_path / "k.pem") == cli.FAILED
    said = capsys.readouterr()
    assert "no private key" in said.err
    assert not any(line in said.err + said.out for line in lines[1:-1])


def test_a_passphrase_is_asked_for(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["open sesame", "open sesame", "wrong", "open sesame"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    key, public = tmp_path / "k.pem", tmp_path / "p.pem"
    assert run("keygen", "-o", key, "--public", public, "--passphrase") == cli.DONE
    assert b"ENCRYPTED" in key.read_bytes()
    assert run("sign", image, "--key", key) == cli.FAILED
    assert run("sign", image, "--key", key) == cli.DONE
    assert run("verify", image, "--pubkey", public) == cli.DONE


def test_a_wrapper_signs_as_the_key_does(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    assert run("sign", image, "--key", PRIVATE, "-o", tmp_path / "one.sig") == cli.DONE
    script = (
        '[ "$1" = -a ] && [ "$2" = rsa2048-sha256 ] || exit 1\n'
        f'openssl dgst -hex -sign {PRIVATE} -sha256 "$3" | sed "s/.*= //"'
    )
    hsm = wrapper(tmp_path, script)
    two = tmp_path / "two.sig"
    assert run("sign", image, "--hsm", hsm, "--pubkey", PUBLIC, "-o", two) == cli.DONE
    assert two.read_bytes() == (tmp_path / "one.sig").read_bytes()


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("exit 3", "status 3"),
        ("echo nonsense", "no RSA-2048 signature"),
        ("yes | head -c 1000", "no RSA-2048 signature"),
        ("yes", "prints more than a signature"),
        ("exec yes >&1 &", "prints more than a signature"),
        ("printf '%0512d\\n' 7", "not made with this key"),
        ("sleep 100 & sleep 100", "not ended"),
        ("exec >&-; sleep 100", "not ended"),
        ("sleep 100 &", "not ended"),
    ],
)
def test_a_wrapper_that_fails_leaves_no_file(
    image: Path, tmp_path: Path, script: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hsm = wrapper(tmp_path, script)
    begin = time.monotonic()
    arguments = ("--hsm", hsm, "--hsm-timeout", 1, "--pubkey", PUBLIC)
    assert run("sign", image, *arguments) == cli.FAILED
    assert time.monotonic() - begin < 10
    assert word in capsys.readouterr().err
    assert not image.with_name("boot.sig").exists()


def test_a_wrapper_that_is_not_there_is_named(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sign", image, "--hsm", tmp_path / "none", "--pubkey", PUBLIC) == cli.FAILED
    assert "cannot be started" in capsys.readouterr().err


def test_a_private_key_is_no_public_one(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image.with_name("boot.sig").write_text("x")
    assert run("verify", image, "--pubkey", PRIVATE) == cli.FAILED
    assert "private key" in capsys.readouterr().err


def test_a_signature_appears_whole_or_not_at_all(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    image.with_name("boot.sig").write_text("before")
    monkeypatch.setattr("os.fsync", full)
    assert run("sign", image, "--key", PRIVATE) == cli.FAILED
    assert image.with_name("boot.sig").read_text() == "before"
    assert {path.name for path in image.parent.iterdir()} == {"boot.img", "boot.sig", "source"}


def test_a_program_that_signs_is_checked_with_the_public_key(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hsm = wrapper(tmp_path, "printf '%0512d\\n' 7")
    assert run("sign", image, "--hsm", hsm) == cli.USAGE
    assert "--hsm needs --pubkey" in capsys.readouterr().err
    assert run("bundle", image, "-o", tmp_path / "out", "--hsm", hsm) == cli.USAGE
    assert not image.with_name("boot.sig").exists()


def test_a_public_key_alone_signs_no_bundle(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bundle", image, "-o", tmp_path / "out", "--pubkey", PUBLIC) == cli.USAGE
    assert "--pubkey alone signs nothing" in capsys.readouterr().err
    arguments = ("--key", PRIVATE, "--hsm-timeout", 5)
    assert run("sign", image, *arguments) == cli.USAGE
    assert "--hsm-timeout is for --hsm" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "1e9", "soon"])
def test_a_time_that_is_none_is_refused(
    image: Path, tmp_path: Path, seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hsm = wrapper(tmp_path, "exit 1")
    with pytest.raises(SystemExit) as caught:
        run("sign", image, "--hsm", hsm, "--pubkey", PUBLIC, f"--hsm-timeout={seconds}")
    assert caught.value.code == cli.USAGE
    assert "no number of seconds" in capsys.readouterr().err


def test_a_program_that_prints_without_end_fills_no_disk(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    # How much of the folder is taken, each time that something was printed.
    script = f"while head -c 100000 /dev/zero; do du -sk {tmp_path}/tmp >>{tmp_path}/taken; done"
    hsm = wrapper(tmp_path, script)
    arguments = ("--hsm", hsm, "--hsm-timeout", 20, "--pubkey", PUBLIC)
    assert run("sign", image, *arguments) == cli.FAILED
    taken_kib = [0]
    if (tmp_path / "taken").exists():
        taken_kib += [int(line.split()[0]) for line in (tmp_path / "taken").open()]
    assert max(taken_kib) <= image.stat().st_size / 1024 + 64
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_the_program_that_signs_and_leaves_nothing(
    image: Path, tmp_path: Path, name: str
) -> None:
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    hsm = wrapper(tmp_path, f"sleep 60 &\necho $$ $! >{pipe}\nwait")
    command = [sys.executable, "-m", "bootimg", "sign", str(image), "--hsm", str(hsm)]
    number = signal.Signals[name]
    process = subprocess.Popen(
        [*command, "--pubkey", str(PUBLIC)],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(tmp)},
        stderr=subprocess.PIPE,
        # Tests that a shell has put into the background have SIGINT ignored, and hand that on.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    pids = [int(word) for word in pipe.read_text().split()]  # waits until it runs
    assert len(pids) == 2
    assert list(tmp.iterdir())
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert said == b""
    assert not list(tmp.iterdir())
    for pid in pids:
        # An orphan's new parent may take its time; it is dead all the same.
        status = Path(f"/proc/{pid}/status")
        assert not status.exists() or "State:\tZ" in status.read_text()
    assert not image.with_name("boot.sig").exists()


def test_a_signature_is_not_written_over_what_it_is_made_of(image: Path, tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    key.write_bytes(PRIVATE.read_bytes())
    (tmp_path / "link").symlink_to(key)
    hsm = wrapper(tmp_path, "exit 1")
    by_hsm = ("--hsm", hsm, "--pubkey", PUBLIC)
    for target, how in (
        (image, ("--key", key)),
        (key, ("--key", key)),
        (tmp_path / "link", ("--key", key)),
        (hsm, by_hsm),
    ):
        before = target.read_bytes()
        assert run("sign", image, *how, "-o", target) == cli.FAILED
        assert target.read_bytes() == before


def test_a_new_key_has_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "k.pem"
    assert run("keygen", "-o", one, "--public", tmp_path / "." / "k.pem") == cli.FAILED
    assert "both halves in one file" in capsys.readouterr().err
    assert not one.exists()
    assert run("keygen", "--public", one) == cli.USAGE
    assert run("keygen", "--of", PRIVATE, "--public", one, "--passphrase") == cli.USAGE
    assert not one.exists()


@pytest.mark.parametrize("which", ["-o", "--public"])
def test_a_key_that_cannot_be_written_leaves_neither_half(tmp_path: Path, which: str) -> None:
    paths = {"-o": tmp_path / "k.pem", "--public": tmp_path / "p.pem"}
    paths[which] = tmp_path / "none" / "x.pem"
    assert run("keygen", *(word for pair in paths.items() for word in pair)) == cli.FAILED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "word"), [(None, "no passphrase was typed"), ("x" * 1024, "longer than 1023 bytes")]
)
def test_a_passphrase_that_is_none_is_refused(
    image: Path,
    tmp_path: Path,
    typed: str | None,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ask(_: str) -> str:
        if typed is None:
            raise EOFError
        return typed

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _: "open sesame")
    key, public = tmp_path / "k.pem", tmp_path / "p.pem"
    assert run("keygen", "-o", key, "--public", public, "--passphrase") == cli.DONE
    monkeypatch.setattr("getpass.getpass", ask)
    more = ("-o", tmp_path / "new.pem", "--public", tmp_path / "new-public.pem", "--passphrase")
    assert run("keygen", *more) == cli.FAILED
    assert word in capsys.readouterr().err
    assert run("sign", image, "--key", key) == cli.FAILED
    assert word in capsys.readouterr().err
    assert not (tmp_path / "new.pem").exists()
    assert not image.with_name("boot.sig").exists()


def test_what_the_system_refuses_is_a_sentence(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hsm = wrapper(tmp_path, "exit 1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert run("sign", image, "--hsm", hsm, "--pubkey", PUBLIC) == cli.FAILED
    assert "TMPDIR" in capsys.readouterr().err

    def refuses(*_: object) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "file")

    monkeypatch.setattr("bootimg.create.create", refuses)
    assert run("create", tmp_path, "-o", tmp_path / "x") == cli.FAILED
    assert capsys.readouterr().err == "gadgetd-bootimg: file: Input/output error\n"


def test_a_full_disk_behind_the_output_is_told_of(image: Path) -> None:
    command = [sys.executable, "-m", "bootimg", "inspect", str(image), "--json"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, cwd=CHECKOUT, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == cli.FAILED
    assert done.stderr == b"gadgetd-bootimg: output: No space left on device\n"


def test_a_reader_that_has_enough_is_no_error(image: Path) -> None:
    command = [sys.executable, "-m", "bootimg", "extract", str(image), "Image.gz", "-o", "-"]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.close()
    assert process.wait(20) == 128 + signal.SIGPIPE
    assert process.stderr
    with process.stderr as said:
        assert said.read() == b""
