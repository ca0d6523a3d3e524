"""boot.sig: the bytes that Raspberry Pi's own tool writes, and keys that are left alone."""

from __future__ import annotations

import os
import stat
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
        ("yes | head -c 1000000", "no RSA-2048 signature"),
        ("printf '%0512d\\n' 7", "not made with this key"),
        ("sleep 100 & sleep 100", "not ended"),
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
    assert run("sign", image, "--hsm", tmp_path / "none") == cli.FAILED
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
