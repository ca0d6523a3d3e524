"""The commands: each reads what it is given, has the work done elsewhere, and writes the result.

Each returns its exit status, DONE or NO, or raises BootimgError and has written nothing.
"""

import argparse
import getpass
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bootimg import create as creation
from bootimg import fat, output, signals
from bootimg.arguments import HSM_TIMEOUT_S
from bootimg.errors import BootimgError, plain

if TYPE_CHECKING:
    from bootimg.record import Settings

DONE, NO = 0, 1
SIGNATURE_BYTES = 64 << 10


def _image(path: Path) -> bytes:
    return output.read(path, fat.MAX_IMAGE_BYTES, "a boot.img")


def _say(text: str) -> None:
    print(f"gadgetd-bootimg: {plain(text)}", file=sys.stderr)


def _inspect(options: argparse.Namespace) -> int:
    from bootimg.inspect import inspect

    beside = options.image.parent / "boot.sig"
    signature = output.read(beside, SIGNATURE_BYTES, "a boot.sig") if beside.is_file() else None
    report = inspect(_image(options.image), str(options.image), signature)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        from bootimg.tables import show

        show(report)
    return NO if any(problem["level"] == "error" for problem in report["problems"]) else DONE


def _extract(options: argparse.Namespace) -> int:
    image = fat.read(_image(options.image), str(options.image))
    if options.file is None:
        with output.folder(options.output) as draft:
            for path, each in image.files.items():
                target = draft / path
                target.parent.mkdir(parents=True, exist_ok=True)
                output.write(target, image.read(each))
        return DONE
    file = image.find(options.file)
    if file is None:
        raise BootimgError(
            f"{options.image}: there is no {options.file}",
            hint=f"see gadgetd-bootimg inspect {options.image}",
        )
    if str(options.output) == "-":
        sys.stdout.buffer.write(image.read(file))
        return DONE
    target = options.output or Path(Path(file.path).name)
    output.refuse_inputs(target, [options.image])
    if options.output is None and target.exists():
        raise BootimgError(f"{target}: is there already", hint="-o names a file to write over")
    output.write(target, image.read(file))
    return DONE


def _configure(options: argparse.Namespace) -> int:
    from bootimg import configure

    settings, original = configure.split(_image(options.image), str(options.image))
    if options.show:
        print(json.dumps(configure.shown(settings), indent=2))
        return DONE
    target = options.image if options.in_place else options.output
    if not options.in_place:
        output.refuse_inputs(target, [options.image], "--in-place writes over it")
    output.refuse_inputs(target, [options.config])
    if options.reset:
        result = original
    else:
        wanted = _given(options).over(settings)
        result = configure.apply(original, wanted, str(options.image), creation.epoch())
        _refuse_unbootable(result, str(options.image), force=options.force)
    output.write(target, result)
    if target.with_name("boot.sig").exists():
        _say("warning: boot.sig beside it is for the image as it was: sign it again")
    return DONE


def _given(options: argparse.Namespace) -> "Settings":
    """The settings on the command line. Raises BootimgError if one can be in no image."""
    from bootimg import configure
    from bootimg.record import Settings

    config = None
    if options.config is not None:
        from bootimg import checker

        raw = output.read(options.config, 64 << 10, "a gadgetd.yaml")
        checker.check(raw, options.config)
        config = raw.decode("utf-8-sig")
    given = Settings(
        config=config,
        boards=tuple(options.boards),
        cmdline=options.cmdline,
        cmdline_add=options.cmdline_add,
        hostname=options.hostname,
        root_password=options.root_password,
        no_login=options.no_login,
        config_txt=tuple(options.config_txt),
    )
    configure.check(given)
    return given


def _refuse_unbootable(data: bytes, name: str, *, force: bool) -> None:
    """Raise BootimgError for an image that would not boot; warn of what is doubtful."""
    from bootimg import firmware

    image = fat.read(data, name)
    text = image.find(firmware.CONFIG)
    for problem in firmware.problems(image, firmware.plan(image.read(text) if text else b"")):
        if problem.level == firmware.ERROR and not force:
            raise BootimgError(
                f"{name}: would not boot: {problem.text}", hint="--force writes it all the same"
            )
        _say(f"{problem.level}: {problem.text}")


def _create(options: argparse.Namespace) -> int:
    output.write(options.output, creation.create(options.folder))
    return DONE


def _signature(options: argparse.Namespace, image: bytes) -> bytes:
    """boot.sig's content, by the key or the program that was named."""
    from bootimg import sign

    seconds = creation.epoch() if os.environ.get("SOURCE_DATE_EPOCH") else int(time.time())
    key = sign.public_key(options.pubkey) if options.pubkey else None
    if options.key:
        signature, own = sign.with_key(image, options.key, _passphrase)
        key = key or own
    else:
        limit_s = options.hsm_timeout or HSM_TIMEOUT_S
        signature = sign.with_wrapper(image, options.hsm, limit_s)
    problem = sign.verify(image, signature, key) if key else "there is no key to check it with"
    if problem:
        raise BootimgError(f"{options.pubkey or options.key}: {problem}", hint="is it the pair?")
    return sign.text(image, seconds, signature)


def _passphrase(prompt: str = "passphrase of the key: ") -> bytes:
    """What a person types. Raises BootimgError if nobody can, or does, or it is too long."""
    from bootimg import sign

    if not sys.stdin.isatty():
        raise BootimgError("there is no terminal to ask for the passphrase")
    try:
        typed = getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except EOFError as error:
        raise BootimgError("no passphrase was typed") from error
    if len(typed) > sign.PASSPHRASE_BYTES:
        raise BootimgError(f"the passphrase is longer than {sign.PASSPHRASE_BYTES} bytes")
    return typed


def _sign(options: argparse.Namespace) -> int:
    image = _image(options.image)
    fat.read(image, str(options.image))
    target = options.output or options.image.parent / "boot.sig"
    output.refuse_inputs(target, [options.image, options.key, options.hsm, options.pubkey])
    output.write(target, _signature(options, image))
    return DONE


def _verify(options: argparse.Namespace) -> int:
    from bootimg import sign

    path = options.signature or options.image.parent / "boot.sig"
    key = sign.public_key(options.pubkey)
    signature = output.read(path, SIGNATURE_BYTES, "the boot.sig of the image")
    problem = sign.check(_image(options.image), signature, key)
    if problem:
        _say(f"{path}: {problem}")
        return NO
    print(f"{plain(str(options.image))}: verified")
    return DONE


def _keygen(options: argparse.Namespace) -> int:
    from bootimg import sign

    if options.output is not None and output.same(options.output, options.public):
        raise BootimgError("keygen: both halves in one file", hint="name another with --public")
    for path in (options.output, options.public):
        if path is not None and path.exists():
            raise BootimgError(f"{path}: is there already", hint="a key is never written over")
    if options.of is not None:
        output.write(options.public, sign.public_of(options.of, _passphrase))
        return DONE
    passphrase = b""
    if options.passphrase:
        passphrase = _passphrase()
        if not passphrase or passphrase != _passphrase("again: "):
            raise BootimgError("the two passphrases differ, or are empty")
    private, public = sign.generate(passphrase)
    # The public half first: whatever fails leaves no private key that nobody knows of.
    with signals.held_back():
        output.write(options.public, public)
        try:
            output.write(options.output, private, 0o600)
        except BootimgError:
            options.public.unlink(missing_ok=True)
            raise
    return DONE


def _bundle(options: argparse.Namespace) -> int:
    from bootimg import bundle, configure

    files = bundle.read(options.source)
    name = f"{options.source}: {bundle.IMAGE}"
    given = _given(options)
    settings, original = configure.split(files[bundle.IMAGE], name)
    if given != type(given)():
        files[bundle.IMAGE] = configure.apply(
            original, given.over(settings), name, creation.epoch()
        )
    _refuse_unbootable(files[bundle.IMAGE], name, force=options.force)
    if options.key or options.hsm:
        files[bundle.SIGNATURE] = _signature(options, files[bundle.IMAGE])
    bundle.write(options.output, files)
    print(f"ready: rpiboot -d {plain(str(options.output))}")
    return DONE


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "inspect": _inspect,
    "extract": _extract,
    "configure": _configure,
    "create": _create,
    "sign": _sign,
    "verify": _verify,
    "keygen": _keygen,
    "bundle": _bundle,
}
