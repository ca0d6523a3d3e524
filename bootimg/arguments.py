"""What can be written behind `gadgetd-bootimg`, and what of it does not go together."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from bootimg import serials
from bootimg.errors import BootimgError, UsageError

HSM_TIMEOUT_S = 60.0
LONGEST_S = 86_400
BOARDS = "--for"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; `command` is the command's name.

    Raises UsageError if they do not go together; what argparse refuses ends with SystemExit(2).
    """
    options = _parser().parse_args(_a_for_each(arguments))
    check = _CHECKS.get(options.command)
    if check:
        check(options)
    return options


def _a_for_each(arguments: Sequence[str]) -> list[str]:
    """`--for A B IMG` as `--for A --for B IMG`, or argparse would take IMG for a serial number."""
    out: list[str] = []
    taken = -1  # how many serial numbers the --for before this has; -1: there is none
    for argument in arguments:
        if taken > 0 and serials.possible(argument.strip().lower()):
            out += [BOARDS, argument]
            continue
        taken = taken + 1 if taken == 0 else -1
        if argument == BOARDS:
            taken = 0
        elif argument.startswith(f"{BOARDS}="):
            taken = 1
        out.append(argument)
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gadgetd-bootimg",
        description="Looks into a boot.img, changes its settings, signs and makes one.",
        epilog="Exit status: 0 done, 1 the answer is no, 2 wrong arguments, 3 failed.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    def image(made: argparse.ArgumentParser) -> None:
        made.add_argument("image", type=Path, metavar="IMG")

    one = command("inspect", "say what is in an image and what would not boot")
    image(one)
    one.add_argument("--json", action="store_true", help="for programs")
    one = command("extract", "take one file, or all, out of an image")
    image(one)
    one.add_argument("file", nargs="?", help="one file; without it, all")
    one.add_argument("-o", "--output", type=Path, help="file, or folder for all; - prints one file")
    one = command("configure", "change an image's settings, or show or remove them")
    image(one)
    _settings(one)
    one.add_argument("--show", action="store_true", help="print the settings, change nothing")
    one.add_argument("--reset", action="store_true", help="the image as it was, byte for byte")
    where = one.add_mutually_exclusive_group()
    where.add_argument("-o", "--output", type=Path, help="the image to write")
    where.add_argument("--in-place", action="store_true", help="write over IMG")
    one = command("create", "make an image with the files of a folder")
    one.add_argument("folder", type=Path, metavar="DIR")
    one.add_argument("-o", "--output", type=Path, required=True, metavar="IMG")
    one = command("sign", "write boot.sig for an image")
    image(one)
    _signer(one, required=True)
    one.add_argument("-o", "--output", type=Path, help="default: boot.sig beside the image")
    one = command("verify", "check boot.sig with the public key")
    image(one)
    one.add_argument("--pubkey", type=Path, required=True, metavar="PEM")
    one.add_argument("--signature", type=Path, help="default: boot.sig beside the image")
    one = command("keygen", "make an RSA-2048 key, or the public half of one")
    one.add_argument("-o", "--output", type=Path, metavar="PEM", help="the new private key")
    one.add_argument("--public", type=Path, required=True, metavar="PEM", help="the public key")
    one.add_argument("--of", type=Path, metavar="PEM", help="of this private key; makes no new one")
    one.add_argument("--passphrase", action="store_true", help="ask for one to encrypt the key")
    one = command("bundle", "make the folder for rpiboot -d, configured, locked, signed")
    one.add_argument("source", type=Path, metavar="SOURCE", help="image, its folder, or a zip")
    one.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    _settings(one)
    _signer(one, required=False)
    return parser


def _settings(one: argparse.ArgumentParser) -> None:
    one.add_argument("--config", type=Path, metavar="YAML", help="gadgetd.yaml")
    one.add_argument(BOARDS, dest="boards", action="append", default=[], type=_serial,
                     metavar="SERIAL", help="only boards with this serial number, or pattern; "
                     "several may follow")  # fmt: skip
    one.add_argument("--cmdline", metavar="TEXT", help="the kernel's command line, whole")
    one.add_argument("--cmdline-add", metavar="TEXT", help="added to its end")
    one.add_argument("--hostname", metavar="NAME")
    one.add_argument("--root-password", metavar="HASH", help="as openssl passwd -6 prints it")
    one.add_argument("--no-login", action="store_true", help="no shell on UART, HDMI and USB")
    one.add_argument("--config-txt", action="append", default=[], type=_pair, metavar="KEY=VALUE",
                     help="a line for config.txt; may be given again")  # fmt: skip
    one.add_argument("--force", action="store_true", help="write it even if it would not boot")


def _signer(one: argparse.ArgumentParser, *, required: bool) -> None:
    who = one.add_mutually_exclusive_group(required=required)
    who.add_argument("--key", type=Path, metavar="PEM", help="private key, RSA-2048")
    who.add_argument("--hsm", type=Path, metavar="WRAPPER",
                     help="a program that signs: WRAPPER -a rsa2048-sha256 FILE")  # fmt: skip
    one.add_argument("--hsm-timeout", type=_seconds, metavar="S",
                     help=f"default: {HSM_TIMEOUT_S:g}")  # fmt: skip
    one.add_argument("--pubkey", type=Path, metavar="PEM",
                     help="check the signature with it; --hsm needs it")  # fmt: skip


def _serial(text: str) -> str:
    try:
        return serials.normalised(text)
    except BootimgError as error:
        raise argparse.ArgumentTypeError(f"{error.message}: {error.hint}") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no KEY=VALUE, as in uart_2ndstage=0")
    return key, value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_S:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds above 0 and up to {LONGEST_S}"
        )
    return seconds


_SETTINGS = (
    *("config", "boards", "cmdline", "cmdline_add", "hostname", "root_password", "no_login"),
    "config_txt",
)


def _given(options: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Those of these options that were given, as they are written."""
    there = [name for name in names if getattr(options, name) not in (None, [], False)]
    return [BOARDS if name == "boards" else f"--{name.replace('_', '-')}" for name in there]


def _check_extract(options: argparse.Namespace) -> None:
    if options.file is None and (options.output is None or str(options.output) == "-"):
        raise UsageError("extract: all files need a folder", hint="name it with -o")


def _check_configure(options: argparse.Namespace) -> None:
    settings = _given(options, _SETTINGS)
    if options.show:
        ignored = settings + _given(options, ("reset", "output", "in_place", "force"))
        if ignored:
            raise UsageError(
                f"configure: --show changes nothing, so not with {', '.join(ignored)}",
                hint="run it twice",
            )
        return
    if options.output is None and not options.in_place:
        raise UsageError("configure: where to?", hint="-o OUT, or --in-place")
    if options.reset and settings:
        raise UsageError(
            f"configure: --reset removes all settings, so not with {', '.join(settings)}",
            hint="run it twice",
        )
    if not options.reset and not settings:
        raise UsageError("configure: nothing to set", hint="see gadgetd-bootimg configure --help")


def _check_signer(options: argparse.Namespace) -> None:
    if options.hsm is None and options.hsm_timeout is not None:
        raise UsageError(f"{options.command}: --hsm-timeout is for --hsm", hint="leave it out")
    if options.hsm is not None and options.pubkey is None:
        # A board that is given a signature of another key does not boot; nobody else would notice.
        raise UsageError(
            f"{options.command}: --hsm needs --pubkey, to check what the program prints",
            hint="--pubkey PEM with the public half of the HSM's key",
        )
    if options.pubkey is not None and options.key is None and options.hsm is None:
        raise UsageError(
            f"{options.command}: --pubkey alone signs nothing", hint="--key or --hsm signs"
        )


def _check_keygen(options: argparse.Namespace) -> None:
    if (options.of is None) == (options.output is None):
        raise UsageError("keygen: -o for a new key, or --of for one that is there")
    if options.of is not None and options.passphrase:
        raise UsageError(
            "keygen: --passphrase is for a new key", hint="the one of --of is asked for by itself"
        )


_CHECKS = {
    "extract": _check_extract,
    "configure": _check_configure,
    "sign": _check_signer,
    "keygen": _check_keygen,
    "bundle": _check_signer,
}
