"""Settings into a boot.img, and out of it again.

What is for the board's root file system becomes a small archive at the end of the initramfs file:
the kernel unpacks it last, so its files win. cmdline.txt and config.txt are changed as text. An
image that was configured before is brought back first, so there is only ever one such archive.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from bootimg import checker, cpio, fat, fatwrite, firmware, initramfs, record, serials
from bootimg.errors import BootimgError
from bootimg.record import Settings

INITTAB, PASSWD, ISSUE, HOSTNAME = "etc/inittab", "etc/passwd", "etc/issue", "etc/hostname"
GADGETD = "usr/bin/gadgetd"
_HASH = re.compile(r"\$(1|5|6)\$(rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{22,86}")
_HASH_LENGTH = {"1": 22, "5": 43, "6": 86}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_KEY = re.compile(r"[A-Za-z0-9_]+")
_SHELLS = {"getty", "agetty", "login", "sh", "ash", "bash", "sulogin", "cttyhack"}
CMDLINE_CHARACTERS = 1024

_WHAT_IS_LOADED = ("ramfsfile", "cmdline", "os_prefix")
"""Keys of config.txt that name other files than those that hold the settings, a lock among them."""


def check(settings: Settings) -> None:
    """Raise BootimgError if a value cannot be set in any image."""
    for option, text in (("--cmdline", settings.cmdline), ("--cmdline-add", settings.cmdline_add)):
        if text is not None and not re.fullmatch(rf"[ -~]{{1,{CMDLINE_CHARACTERS}}}", text):
            raise BootimgError(
                f"{option}: not one line of 1 to {CMDLINE_CHARACTERS} ASCII characters",
                hint="configure --reset gives the image's own back",
            )
    if settings.hostname is not None and not _HOST.fullmatch(settings.hostname):
        raise BootimgError(
            f"--hostname {settings.hostname}: no name of a host", hint="letters, digits, hyphens"
        )
    for board in settings.boards:
        serials.normalised(board)
    if settings.root_password is not None:
        match = _HASH.fullmatch(settings.root_password)
        digits = settings.root_password.rpartition("$")[2]
        if not match or len(digits) != _HASH_LENGTH[match[1]]:
            raise BootimgError(
                "--root-password: no hash as BusyBox takes it, which begins with $6$, $5$ or $1$",
                hint="openssl passwd -6 asks for a password and prints its hash",
            )
        if settings.no_login:
            raise BootimgError(
                "--root-password and --no-login: there is one or the other",
                hint="configure --reset ends what was set before",
            )
    for key, value in settings.config_txt:
        line = f"{key}={value}"
        if key in _WHAT_IS_LOADED:
            raise BootimgError(
                f"--config-txt {line}: the other settings would not be in what is loaded then",
                hint=f"change {key} in the folder, and make the image anew: create",
            )
        if not _KEY.fullmatch(key) or not re.fullmatch(r"[ -~]*", value) or key == "initramfs":
            raise BootimgError(
                f"--config-txt {line}: no KEY=VALUE of config.txt", hint="as in uart_2ndstage=0"
            )
        if len(line) > firmware.LINE:
            raise BootimgError(
                f"--config-txt {line}: the firmware reads {firmware.LINE} characters of a line"
            )


def split(data: bytes, name: str) -> tuple[Settings, bytes]:
    """The settings that an image was given, and the image before that. Raises BootimgError."""
    found = record.read(fat.read(data, name))
    return found or (Settings(), data)


def apply(original: bytes, settings: Settings, name: str, epoch: int) -> bytes:
    """The image with the settings. `original` was never configured. Raises BootimgError."""
    check(settings)
    image = fat.read(original, name)
    wanted = firmware.plan(_text(image, firmware.CONFIG))
    files = {
        path: fatwrite.Input(image.read(file), file.date, file.time)
        for path, file in image.files.items()
    }
    kept = {path: file.size for path, file in image.files.items()}
    now = fatwrite.stamp(epoch)

    def change(path: str, data: bytes) -> None:
        files[path] = fatwrite.Input(data, *now)
        kept.pop(path, None)

    if settings.config_txt:
        found = image.find(firmware.CONFIG)
        text = _config_txt(_text(image, firmware.CONFIG), wanted, settings.config_txt)
        change(found.path if found else firmware.CONFIG, text)
    if settings.cmdline is not None or settings.cmdline_add is not None:
        found = image.find(wanted.cmdline)
        change(
            found.path if found else wanted.cmdline,
            _cmdline(_text(image, wanted.cmdline), settings),
        )
    if _in_root(settings):
        ramfs = _initramfs(image, wanted)
        before = image.read(ramfs)
        more = list(_entries(before, settings, f"{name}: {ramfs.path}"))
        files[ramfs.path] = fatwrite.Input(initramfs.append(before, more), *now)
    files[record.NAME] = fatwrite.Input(record.write(settings, image, kept), *now)
    return fatwrite.build(
        files,
        epoch=epoch,
        where=name,
        label=image.label or fatwrite.LABEL,
        serial=image.serial or fatwrite.SERIAL,
    )


def _in_root(settings: Settings) -> bool:
    return any(
        (settings.config is not None, settings.boards, settings.hostname, settings.no_login)
    ) or (settings.root_password is not None)


def _text(image: fat.Fat, path: str) -> bytes:
    file = image.find(path)
    return image.read(file) if file else b""


def _initramfs(image: fat.Fat, wanted: firmware.Plan) -> fat.File:
    """The last initramfs that the firmware loads."""
    file = image.find(wanted.initramfs[-1]) if wanted.initramfs else None
    if file is None:
        named = (
            f"{wanted.initramfs[-1]} is not in it" if wanted.initramfs else "config.txt names none"
        )
        raise BootimgError(f"{image.name}: there is no initramfs to configure: {named}")
    return file


def _entries(before: bytes, settings: Settings, where: str) -> Iterator[cpio.Entry]:
    """What is laid over the board's root."""
    wanted = (GADGETD, checker.PATH, INITTAB, PASSWD, ISSUE, HOSTNAME)
    there = initramfs.files(before, wanted, where)
    if GADGETD not in there:
        raise BootimgError(
            f"{where}: there is no gadgetd in it",
            hint="of an image that is not gadgetd's, --cmdline and --config-txt can be set",
        )
    yield cpio.directory("etc")
    own = there.get(checker.PATH, b"")
    text = _yaml(settings, own.decode("utf-8", "replace"), f"{where}: {checker.PATH}")
    if text is not None:
        yield cpio.file(checker.PATH, text.encode())
    if settings.hostname is not None:
        yield cpio.file(HOSTNAME, f"{settings.hostname}\n".encode())
    if settings.root_password is None and not settings.no_login:
        return
    if settings.no_login:
        effective = own if text is None else text
        if checker.check(effective, Path(checker.PATH)).acm:
            raise BootimgError(
                "--no-login: the configuration has usb.acm: true, a serial port with a root login",
                hint="take acm out of the configuration",
            )
        yield cpio.file(INITTAB, _without_shells(_there(there, INITTAB, where)))
    secret = "!" if settings.no_login else settings.root_password
    yield cpio.file(PASSWD, _with_password(_there(there, PASSWD, where), f"{secret}", where))
    if ISSUE in there:
        yield cpio.file(ISSUE, b"gadgetd\n" if settings.no_login else b"gadgetd: log in as root\n")


def _there(files: dict[str, bytes], path: str, where: str) -> bytes:
    if path not in files:
        raise BootimgError(f"{where}: there is no {path} in it", hint="is it an image of gadgetd?")
    return files[path]


def _yaml(settings: Settings, own: str, where: str) -> str | None:
    """gadgetd.yaml with the board lock; None if the image's own stays as it is."""
    if settings.config is None and not settings.boards:
        return None
    name = Path(where if settings.config is None else "gadgetd.yaml")
    text = own if settings.config is None else settings.config
    facts = checker.check(text, name)
    for board in facts.boards:
        if not serials.possible(board):
            raise BootimgError(
                f"{name}: boards: {board!r} fits no board: nothing would be exported anywhere",
                hint=f"{serials.DIGITS} hex digits with small letters, or a pattern of them",
            )
    if not settings.boards:
        return text
    if facts.boards:
        raise BootimgError(
            f"{name} has boards: of its own, and --for is set too",
            hint="leave out one of them; configure --reset ends an earlier --for",
        )
    lines = "".join(f'  - "{board}"\n' for board in settings.boards)
    text = f"{text.rstrip()}\n\nboards:\n{lines}".lstrip()
    try:
        locked = checker.check(text, name).boards
    except BootimgError:
        locked = ()
    if locked != settings.boards:
        raise BootimgError(
            f"{name} is written so that boards: cannot follow it, as a {{ }} or a `...` at its end",
            hint=f"leave out --for, and write into it: boards: {list(settings.boards)}",
        )
    return text


def _without_shells(inittab: bytes) -> bytes:
    """The inittab less every line that starts a login or a shell."""
    kept = []
    for line in inittab.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":", 3)
        if not line.startswith("#") and len(fields) == 4:
            words = fields[3].replace("-/", "/").split()
            programs = {word.rpartition("/")[2].lstrip("-") for word in words[:1]}
            if programs & _SHELLS:
                continue
        kept.append(line)
    return ("\n".join(kept) + "\n").encode("utf-8", "surrogateescape")


def _with_password(passwd: bytes, secret: str, where: str) -> bytes:
    """Passwd with this in root's second field."""
    lines = passwd.decode("utf-8", "surrogateescape").splitlines()
    for number, line in enumerate(lines):
        fields = line.split(":")
        if fields[0] == "root" and len(fields) == 7:
            fields[1] = secret
            lines[number] = ":".join(fields)
            return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
    raise BootimgError(f"{where}: {PASSWD} has no root")


def _config_txt(text: bytes, wanted: firmware.Plan, changes: tuple[tuple[str, str], ...]) -> bytes:
    """config.txt with these keys; where the firmware takes the last one, the last one is ours."""
    out = text if not text or text.endswith(b"\n") else text + b"\n"
    if wanted.filtered:
        out += b"[all]\n"
    return out + "".join(f"{key}={value}\n" for key, value in changes).encode("ascii")


def _cmdline(text: bytes, settings: Settings) -> bytes:
    """The kernel's command line: replaced, added to, or both."""
    line = settings.cmdline
    if line is None:
        lines = text.decode("latin-1").strip().splitlines()
        line = lines[0] if lines else ""
    line = f"{line} {settings.cmdline_add or ''}".strip()
    if len(line) > CMDLINE_CHARACTERS:
        raise BootimgError(
            f"--cmdline-add: makes the command line longer than {CMDLINE_CHARACTERS} characters"
        )
    return line.encode("latin-1") + b"\n"


def shown(settings: Settings) -> dict[str, object]:
    """The settings for a person or a program; of the password only that there is one."""
    values = {
        key: value for key, value in settings._asdict().items() if value not in (None, (), False)
    }
    if "root_password" in values:
        values["root_password"] = "set"  # noqa: S105
    if "config_txt" in values:
        values["config_txt"] = [f"{key}={value}" for key, value in settings.config_txt]
    return values
