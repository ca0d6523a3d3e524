"""boot.sig: the digest of a boot.img, its time, and an RSA signature. Keys for it.

A file of lines, as Raspberry Pi's boot loader reads it: the SHA-256 of the image in hex;
`ts: ` and seconds since 1970; `rsa2048: ` and the PKCS#1 v1.5 signature of that SHA-256, in hex.
Source: raspberrypi/usbboot, docs/secure-boot.md.
"""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from bootimg import output, signals
from bootimg.errors import BootimgError

KEY_BITS = 2048
PASSPHRASE_BYTES = 1023
"""All that cryptography takes, and OpenSSL: its PEM_BUFSIZE less the end."""
KEY_FILE_BYTES = 64 << 10
WRAPPER_BYTES = 64 << 10
MAKE_ONE = "gadgetd-bootimg keygen makes one that fits"
_LINE = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(rf"[0-9a-fA-F]{{{KEY_BITS // 4}}}")

Ask = Callable[[], bytes]


def text(image: bytes, seconds: int, signature: bytes) -> bytes:
    """The content of boot.sig."""
    digest = hashlib.sha256(image).hexdigest()
    return f"{digest}\nts: {seconds}\nrsa2048: {signature.hex()}\n".encode()


def with_key(image: bytes, path: Path, ask: Ask) -> tuple[bytes, rsa.RSAPublicKey]:
    """Sign with a private key in a PEM file; `ask` is called for a passphrase if it has one.

    Returns the signature and the public key. Raises BootimgError, never with a part of the key.
    """
    key = _private_key(path, ask)
    signature = key.sign(image, padding.PKCS1v15(), hashes.SHA256())
    return signature, key.public_key()


def with_wrapper(image: bytes, wrapper: Path, limit_s: float) -> bytes:
    """Have a program sign: `wrapper -a rsa2048-sha256 FILE`, which prints the signature in hex.

    FILE is a copy of `image`, so what is signed is what was read; it is gone afterwards. Raises
    BootimgError if the program cannot be started, fails, prints something else, or has not ended
    after `limit_s` seconds. Whatever ends this, the program and its children are ended too.
    """
    hint = "it is called as: WRAPPER -a rsa2048-sha256 FILE, and prints 512 hex digits"
    try:
        with signals.held_back():
            folder = tempfile.TemporaryDirectory(prefix="gadgetd-bootimg-")
        with folder as draft:
            file = Path(draft, "boot.img")
            file.write_bytes(image)
            status, printed = _run(wrapper, file, limit_s, hint)
    except OSError as error:
        raise BootimgError(
            f"{tempfile.gettempdir()}: no copy of the image can be there: {error.strerror}",
            hint="TMPDIR names another folder",
        ) from error
    if status:
        raise BootimgError(f"{wrapper}: ended with status {status}", hint=hint)
    answer = printed.decode("ascii", "replace").strip()
    if not _SIGNATURE.fullmatch(answer):
        raise BootimgError(
            f"{wrapper}: printed {len(answer)} characters that are no RSA-2048 signature", hint=hint
        )
    return bytes.fromhex(answer)


def _run(wrapper: Path, file: Path, limit_s: float, hint: str) -> tuple[int, bytes]:
    """The program's status and what it printed. Raises BootimgError."""
    deadline = time.monotonic() + limit_s
    process = None
    try:
        with signals.held_back():
            process = subprocess.Popen(
                [str(wrapper.absolute()), "-a", "rsa2048-sha256", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        printed = bytearray()
        # A thread of its own, because no system but Unix can wait for a pipe with a limit.
        reader = threading.Thread(target=_read, args=(process, printed), daemon=True)
        reader.start()
        reader.join(limit_s)
        if len(printed) > WRAPPER_BYTES:
            raise BootimgError(f"{wrapper}: prints more than a signature, without end", hint=hint)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(process.args, limit_s)
        return process.wait(max(0.0, deadline - time.monotonic())), bytes(printed)
    except subprocess.TimeoutExpired as error:
        raise BootimgError(
            f"{wrapper}: has not ended after {limit_s:g} s", hint="see --hsm-timeout"
        ) from error
    except OSError as error:
        raise BootimgError(f"{wrapper}: cannot be started: {error.strerror}", hint=hint) from error
    finally:
        if process is not None:
            _end(process)


def _read(process: "subprocess.Popen[bytes]", printed: bytearray) -> None:
    """All that the program prints, and no more than is looked at."""
    if process.stdout is None:
        return
    with process.stdout as pipe:
        while len(printed) <= WRAPPER_BYTES and (part := pipe.read(WRAPPER_BYTES)):
            printed += part


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave nothing behind of a program that was not waited for, nor of those that it started."""
    if process.returncode is not None:
        return
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def check(image: bytes, signature_file: bytes, key: rsa.RSAPublicKey) -> str:
    """What is wrong with a boot.sig for this image and key; empty if it is good."""
    lines = signature_file.decode("ascii", "replace").splitlines()
    if not lines or not _LINE.fullmatch(lines[0]):
        return "its first line is no SHA-256"
    if lines[0] != hashlib.sha256(image).hexdigest():
        return f"it is for another image: line 1 says {lines[0]}"
    found = [line.removeprefix("rsa2048: ") for line in lines if line.startswith("rsa2048: ")]
    if len(found) != 1 or not _SIGNATURE.fullmatch(found[0]):
        return "it has no line `rsa2048:` with 512 hex digits"
    return verify(image, bytes.fromhex(found[0]), key)


def verify(image: bytes, signature: bytes, key: rsa.RSAPublicKey) -> str:
    """What is wrong with a signature; empty if it is good."""
    try:
        key.verify(signature, image, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return "the signature was not made with this key"
    return ""


def public_key(path: Path) -> rsa.RSAPublicKey:
    """A public key in a PEM file. Raises BootimgError."""
    data = output.read(path, KEY_FILE_BYTES, "a public key in PEM format")
    if b"PRIVATE KEY" in data:
        raise BootimgError(
            f"{path}: this is a private key",
            hint="take the public one; gadgetd-bootimg keygen --public makes it of a private one",
        )
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BootimgError(f"{path}: no public key in PEM format", hint=MAKE_ONE) from error
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != KEY_BITS:
        raise BootimgError(f"{path}: not an RSA key of {KEY_BITS} bits", hint=MAKE_ONE)
    return key


def public_of(path: Path, ask: Ask) -> bytes:
    """The public half of a private key, as PEM. Raises BootimgError."""
    return _public_pem(_private_key(path, ask).public_key())


def generate(passphrase: bytes) -> tuple[bytes, bytes]:
    """A new private key and its public half, as PEM; with a passphrase it is encrypted."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        how = serialization.BestAvailableEncryption(passphrase)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    return private, _public_pem(key.public_key())


def _public_pem(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _private_key(path: Path, ask: Ask) -> rsa.RSAPrivateKey:
    data = output.read(path, KEY_FILE_BYTES, "a private key in PEM format")
    try:
        key = _load(data, None)
    except TypeError:  # this is how it says that there is a passphrase
        try:
            key = _load(data, ask())
        except (TypeError, ValueError, UnsupportedAlgorithm):  # TypeError: an empty one
            raise BootimgError(f"{path}: not the right passphrase, or a damaged key") from None
    except (ValueError, UnsupportedAlgorithm):
        # Not `from`: what it says may have a part of the file in it.
        raise BootimgError(f"{path}: no private key in PEM format", hint=MAKE_ONE) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != KEY_BITS:
        raise BootimgError(
            f"{path}: not an RSA key of {KEY_BITS} bits, all that the boot loader takes",
            hint=MAKE_ONE,
        )
    return key


def _load(data: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    return serialization.load_pem_private_key(data, password=passphrase)
