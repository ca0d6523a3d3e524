"""Arguments, exit codes and what is printed. The work is done elsewhere.

Exit status: 0 done; 1 the answer is no (`inspect`: would not boot, `verify`: not verified);
2 arguments that are not understood; 3 it could not be done, and no file was written.
"""

import argparse
import getpass
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bootimg import create as creation
from bootimg import fat, output
from bootimg.errors import BootimgError

if TYPE_CHECKING:
    from bootimg.record import Settings

DONE, NO, USAGE, FAILED = 0, 1, 2, 3
SIGNATURE_BYTES = 64 << 10
AN_IMAGE = "a boot.img"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `gadgetd-bootimg`; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BootimgError as error:
        print(f"gadgetd-bootimg: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return FAILED
    except ModuleNotFoundError as error:
        print(f"gadgetd-bootimg: {error.name} is not installed", file=sys.stderr)
        print("  hint: pip install 'gadgetd[bootimg]'", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"gadgetd-bootimg: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gadgetd-bootimg",
        description="Looks into a boot.img, changes its settings, signs and makes one.",
        epilog="Exit status: 0 done, 1 the answer is no, 2 wrong arguments, 3 failed.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    def image(made: argparse.ArgumentParser) -> None:
        made.add_argument("image", type=Path, metavar="IMG")

    one = command("inspect", _inspect, "say what is in an image and what would not boot")
    image(one)
    one.add_argument("--json", action="store_true", help="for programs")
    one = command("extract", _extract, "take one file, or all, out of an image")
    image(one)
    one.add_argument("file", nargs="?", help="one file; without it, all")
    one.add_argument("-o", "--output", type=Path, help="file, or folder for all; - prints one file")
    one = command("configure", _configure, "change an image's settings, or show or remove them")
    image(one)
    _settings(one)
    one.add_argument("--show", action="store_true", help="print the settings, change nothing")
    one.add_argument("--reset", action="store_true", help="the image as it was, byte for byte")
    where = one.add_mutually_exclusive_group()
    where.add_argument("-o", "--output", type=Path, help="the image to write")
    where.add_argument("--in-place", action="store_true", help="write over IMG")
    one = command("create", _create, "make an image with the files of a folder")
    one.add_argument("folder", type=Path, metavar="DIR")
    one.add_argument("-o", "--output", type=Path, required=True, metavar="IMG")
    one = command("sign", _sign, "write boot.sig for an image")
    image(one)
    _signer(one, required=True)
    one.add_argument("-o", "--output", type=Path, help="default: boot.sig beside the image")
    one = command("verify", _verify, "check boot.sig with the public key")
    image(one)
    one.add_argument("--pubkey", type=Path, required=True, metavar="PEM")
    one.add_argument("--signature", type=Path, help="default: boot.sig beside the image")
    one = command("keygen", _keygen, "make an RSA-2048 key, or the public half of one")
    one.add_argument("-o", "--output", type=Path, metavar="PEM", help="the new private key")
    one.add_argument("--public", type=Path, required=True, metavar="PEM", help="the public key")
    one.add_argument("--of", type=Path, metavar="PEM", help="of this private key; makes no new one")
    one.add_argument("--passphrase", action="store_true", help="ask for one to encrypt the key")
    one = command("bundle", _bundle, "make the folder for rpiboot -d, configured, locked, signed")
    one.add_argument("source", type=Path, metavar="SOURCE", help="image, its folder, or a zip")
    one.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    _settings(one)
    _signer(one, required=False)
    return parser


def _settings(one: argparse.ArgumentParser) -> None:
    one.add_argument("--config", type=Path, metavar="YAML", help="gadgetd.yaml")
    one.add_argument("--for", dest="boards", nargs="+", default=[], metavar="SERIAL",
                     help="only boards with these serial numbers, or patterns of them")  # fmt: skip
    one.add_argument("--cmdline", metavar="TEXT", help="the kernel's command line, whole")
    one.add_argument("--cmdline-add", metavar="TEXT", help="added to its end")
    one.add_argument("--hostname", metavar="NAME")
    one.add_argument("--root-password", metavar="HASH", help="as openssl passwd -6 prints it")
    one.add_argument("--no-login", action="store_true", help="no shell on UART, HDMI and USB")
    one.add_argument("--config-txt", action="append", default=[], metavar="KEY=VALUE",
                     help="a line for config.txt; may be given again")  # fmt: skip
    one.add_argument("--force", action="store_true", help="write it even if it would not boot")


def _signer(one: argparse.ArgumentParser, *, required: bool) -> None:
    who = one.add_mutually_exclusive_group(required=required)
    who.add_argument("--key", type=Path, metavar="PEM", help="private key, RSA-2048")
    who.add_argument("--hsm", type=Path, metavar="WRAPPER",
                     help="a program that signs: WRAPPER -a rsa2048-sha256 FILE")  # fmt: skip
    one.add_argument("--hsm-timeout", type=float, default=60, metavar="S", help="default: 60")
    one.add_argument("--pubkey", type=Path, metavar="PEM", help="check the signature with it")


def _image(path: Path) -> bytes:
    return output.read(path, fat.MAX_IMAGE_BYTES, AN_IMAGE)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file, there or not."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _inspect(options: argparse.Namespace) -> int:
    import json

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
    if options.file is not None:
        file = image.find(options.file)
        if file is None:
            raise BootimgError(
                f"{options.image}: there is no {options.file}",
                hint=f"see gadgetd-bootimg inspect {options.image}",
            )
        if str(options.output) == "-":
            sys.stdout.buffer.write(image.read(file))
        else:
            target = options.output or Path(Path(file.path).name)
            if _same(target, options.image):
                raise BootimgError(f"{target}: is the input", hint="name another file with -o")
            output.write(target, image.read(file))
        return DONE
    if options.output is None or str(options.output) == "-":
        raise BootimgError("extract: all files need a folder", hint="name it with -o")
    if options.output.exists() and any(options.output.iterdir()):
        raise BootimgError(f"{options.output}: is not empty", hint="name a new folder")
    for path, file in image.files.items():
        target = options.output / path
        target.parent.mkdir(parents=True, exist_ok=True)
        output.write(target, image.read(file))
    return DONE


def _configure(options: argparse.Namespace) -> int:
    import json

    from bootimg import configure

    data = _image(options.image)
    settings, original = configure.split(data, str(options.image))
    given = _given(options)
    if options.show:
        print(json.dumps(configure.shown(settings), indent=2))
        return DONE
    target = options.image if options.in_place else options.output
    if target is None:
        raise BootimgError("configure: where to?", hint="-o OUT, or --in-place")
    if not options.in_place and target.exists() and target.samefile(options.image):
        raise BootimgError(f"{target}: is the input", hint="--in-place writes over it")
    if options.reset:
        if given != type(given)():
            raise BootimgError("configure: --reset goes with no setting", hint="run it twice")
        output.write(target, original)
        return DONE
    if given == type(given)():
        raise BootimgError("configure: nothing to set", hint="see gadgetd-bootimg configure --help")
    result = configure.apply(original, given.over(settings), str(options.image), creation.epoch())
    _refuse_unbootable(result, str(options.image), force=options.force)
    output.write(target, result)
    _warn_of_signature(target)
    return DONE


def _given(options: argparse.Namespace) -> "Settings":
    """The settings on the command line."""
    from bootimg.record import Settings

    config = None
    if options.config is not None:
        from bootimg import checker

        raw = output.read(options.config, 64 << 10, "a gadgetd.yaml")
        checker.check(raw, options.config)
        config = raw.decode("utf-8-sig")
    pairs = [text.partition("=") for text in options.config_txt]
    for key, equals, _ in pairs:
        if not equals:
            raise BootimgError(f"--config-txt {key}: no KEY=VALUE", hint="as in uart_2ndstage=0")
    return Settings(
        config=config,
        boards=tuple(options.boards),
        cmdline=options.cmdline,
        cmdline_add=options.cmdline_add,
        hostname=options.hostname,
        root_password=options.root_password,
        no_login=options.no_login,
        config_txt=tuple((key, value) for key, _, value in pairs),
    )


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
        print(f"gadgetd-bootimg: {problem.level}: {problem.text}", file=sys.stderr)


def _warn_of_signature(target: Path) -> None:
    if target.with_name("boot.sig").exists():
        text = "boot.sig beside it is for the image as it was: sign it again"
        print(f"gadgetd-bootimg: warning: {text}", file=sys.stderr)


def _create(options: argparse.Namespace) -> int:
    output.write(options.output, creation.create(options.folder))
    return DONE


def _signature(options: argparse.Namespace, image: bytes) -> bytes:
    """boot.sig's content, by the key or the program that was named."""
    import os

    from bootimg import sign

    seconds = creation.epoch() if os.environ.get("SOURCE_DATE_EPOCH") else int(time.time())
    key = sign.public_key(options.pubkey) if options.pubkey else None
    if options.key:
        signature, own = sign.with_key(image, options.key, _passphrase)
        key = key or own
    else:
        signature = sign.with_wrapper(image, options.hsm, options.hsm_timeout)
    problem = sign.verify(image, signature, key) if key else ""
    if problem:
        raise BootimgError(f"{options.pubkey or options.key}: {problem}", hint="is it the pair?")
    return sign.text(image, seconds, signature)


def _passphrase() -> bytes:
    if not sys.stdin.isatty():
        raise BootimgError("the key has a passphrase, and there is no terminal to ask for it")
    return getpass.getpass("passphrase of the key: ").encode()


def _sign(options: argparse.Namespace) -> int:
    image = _image(options.image)
    fat.read(image, str(options.image))
    target = options.output or options.image.parent / "boot.sig"
    for source in (options.image, options.key, options.hsm, options.pubkey):
        if source is not None and _same(target, source):
            raise BootimgError(f"{target}: is the input", hint="name another file with -o")
    output.write(target, _signature(options, image))
    return DONE


def _verify(options: argparse.Namespace) -> int:
    from bootimg import sign

    path = options.signature or options.image.parent / "boot.sig"
    key = sign.public_key(options.pubkey)
    signature = output.read(path, SIGNATURE_BYTES, "the boot.sig of the image")
    problem = sign.check(_image(options.image), signature, key)
    if problem:
        print(f"gadgetd-bootimg: {path}: {problem}", file=sys.stderr)
        return NO
    print(f"{options.image}: verified")
    return DONE


def _keygen(options: argparse.Namespace) -> int:
    from bootimg import sign

    if (options.of is None) == (options.output is None):
        raise BootimgError("keygen: -o for a new key, or --of for one that is there")
    if options.output is not None and _same(options.output, options.public):
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
        if not passphrase or passphrase != getpass.getpass("again: ").encode():
            raise BootimgError("the two passphrases differ, or are empty")
    private, public = sign.generate(passphrase)
    output.write(options.output, private, 0o600)
    output.write(options.public, public)
    return DONE


def _bundle(options: argparse.Namespace) -> int:
    from bootimg import bundle, configure

    if options.pubkey and not (options.key or options.hsm):
        raise BootimgError("bundle: --pubkey alone signs nothing", hint="--key or --hsm signs")
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
    print(f"ready: rpiboot -d {options.output}")
    return DONE
