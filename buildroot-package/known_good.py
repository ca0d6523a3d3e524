"""Compares the image with Raspberry Pi's own mass-storage gadget, which boots on many boards.

    python3 buildroot-package/known_good.py >docs/known-good.md

What the original has is in known-good/, names and values alone; why ours differs is there too, in
our words. A difference without a reason is an error, and so is a reason that fits nothing.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).resolve().parent
IMAGES = {"bcm2711": "cm4", "bcm2712": "cm5"}
"""The SoC that an image is for, and the name of its board/ and defconfig."""


def main() -> int:
    """Print the page; 1 and the differences that nobody has explained."""
    reasons = tomllib.loads((HERE / "known-good/reasons.toml").read_text())
    kernel = their_kernel()
    unexplained = [*kernel_errors(kernel, our_kernel(), reasons), *line_errors(reasons)]
    for line in unexplained:
        print(f"known_good: ERROR: {line}", file=sys.stderr)
    print(page(kernel, reasons), end="")
    return bool(unexplained)


def their_kernel() -> dict[str, str]:
    """Each option of the original's kernel and its value; n is for one that is not set."""
    lines = (HERE / "known-good/kernel.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def our_kernel() -> dict[str, str]:
    """Each option that a fragment of ours sets."""
    found = {}
    for path in [*HERE.glob("board/*/linux.config"), *HERE.glob("board/*/linux-rpi.config")]:
        for line in path.read_text().splitlines():
            match = re.fullmatch(r"(?:# )?CONFIG_(\w+)(?:=(.+)| is not set)", line)
            if match:
                found[match[1]] = match[2] or "n"
    return found


def is_same(theirs: str, ours: str | None) -> bool:
    """Whether an option has the same effect: what is a module there is built in here."""
    return ours == theirs or (theirs, ours) == ("m", "y")


def kernel_errors(
    theirs: Mapping[str, str], ours: Mapping[str, str], reasons: Mapping[str, dict]
) -> Iterator[str]:
    """What is neither the same, nor implied, nor explained, or is so more than once."""
    same = {name for name, value in theirs.items() if is_same(value, ours.get(name))}
    told = dict.fromkeys(same, "our fragments")
    for name, selector in reasons["implied"].items():
        if ours.get(selector) != "y":
            yield f"{name} is not implied: {selector} is not set"
        told[name] = selector
    for group in reasons["kernel"]:
        for pattern in group["names"]:
            fits = [name for name in theirs if fnmatchcase(name, pattern)]
            if not fits:
                yield f"{pattern} ({group['title']}) fits nothing of theirs"
            for name in fits:
                if name in told:
                    yield f"{name} is told twice: {pattern} ({group['title']}) and {told[name]}"
                told[name] = pattern
    for name in theirs.keys() - told.keys():
        yield f"CONFIG_{name}={theirs[name]} of theirs is neither set here nor explained"


def our_lines(soc: str, kind: str) -> list[str]:
    """The lines of config.txt, the words of cmdline.txt, or the files of one image."""
    board = HERE / "board" / IMAGES[soc]
    config = [
        line
        for line in (board / "config.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    if kind == "config":
        return config
    if kind == "cmdline":
        return (HERE / "board/cm4/cmdline.txt").read_text().split()
    if kind == "rpiboot":
        loaders = ["bootfiles.bin", *(["bootcode4.bin"] if soc == "bcm2711" else [])]
        return [*loaders, "config.txt", "boot.img", "manifest.json", "SHA256SUMS"]
    defconfig = (HERE / f"configs/gadgetd_{IMAGES[soc]}_defconfig").read_text()
    (trees,) = re.findall(r'INTREE_DTS_NAME="(.*)"', defconfig)
    named = [
        re.split("[= ]", line)[1]
        for line in config
        if re.match("(start|fixup)_file|kernel|initramfs", line)
    ]
    overlays = [
        f"overlays/{n}" for n in re.findall(r"^dtoverlay=([\w-]+)", "\n".join(config), re.M)
    ]
    return [
        "config.txt",
        "cmdline.txt",
        *named,
        *(f"{Path(t).name}.dtb" for t in trees.split()),
        *overlays,
    ]


def kind_of(key: str) -> str:
    """`config` of `config64`."""
    return key.rstrip("0123456789")


def answer(soc: str, key: str, line: str, reasons: Mapping[str, dict]) -> str:
    """`same`, or why this image has not got a line of theirs; empty if nobody says."""
    if line in our_lines(soc, kind_of(key)):
        return "same"
    for pattern, why in reasons["reasons"].items():
        if pattern == line or ("*" in pattern and fnmatchcase(line, pattern)):
            return why if isinstance(why, str) else why.get(soc, "")
    return ""


def line_errors(reasons: Mapping[str, dict]) -> Iterator[str]:
    """Lines and files of one side that nobody explains, and reasons that nobody needs."""
    used: set[str] = set()
    for soc in IMAGES:
        for key, lines in reasons["theirs"].items():
            for line in lines:
                if not answer(soc, key, line, reasons):
                    yield f"{key}: {line} is neither in the image for {soc} nor explained"
                used |= {p for p in reasons["reasons"] if p == line or fnmatchcase(line, p)}
        for kind in ("config", "cmdline", "boot", "rpiboot"):
            known = {
                n for key, lines in reasons["theirs"].items() if kind_of(key) == kind for n in lines
            }
            for line in set(our_lines(soc, kind)) - known:
                fits = [p for p in reasons["ours"] if p == line or fnmatchcase(line, p)]
                if not fits:
                    yield f"{line} is only in the image for {soc}, and nobody says why"
                used |= set(fits)
    for pattern in {*reasons["reasons"], *reasons["ours"]} - used:
        yield f"{pattern} fits nothing"


TITLES = {
    "config64": "config.txt of the 64-bit one",
    "config32": "config.txt of the 32-bit one",
    "cmdline64": "cmdline.txt of the 64-bit one",
    "cmdline32": "cmdline.txt of the 32-bit one",
    "boot64": "Files in boot.img of the 64-bit one",
    "boot32": "Files in boot.img of the 32-bit one",
    "rpiboot": "Files in the folder for rpiboot",
}


def page(kernel: Mapping[str, str], reasons: Mapping[str, dict]) -> str:
    """docs/known-good.md."""
    ours = our_kernel()
    out = [(HERE / "known-good/head.md").read_text()]
    for key, lines in reasons["theirs"].items():
        out += [
            f"\n## {TITLES[key]}\n\n| Theirs | CM4, CM4S, 4B, 400 | CM5, 5, 500 |\n|---|---|---|\n"
        ]
        for line in lines:
            cells = [answer(soc, key, line, reasons) for soc in IMAGES]
            out.append(f"| `{line}` | {cells[0]} | {cells[1]} |\n")
    out.append("\n## What only ours has\n\n| | Why |\n|---|---|\n")
    out += [f"| `{name}` | {why} |\n" for name, why in reasons["ours"].items()]
    same = sorted(n for n, v in kernel.items() if is_same(v, ours.get(n)))
    out.append(
        f"\n## The kernel\n\nThe 64-bit original's configuration has {len(kernel)} options."
        f" {len(same)} of them are the same here (what is a module there is built in here):\n\n"
    )
    out.append(f"{names(same)}\n\nImplied by what is set: ")
    out.append("; ".join(f"{n} by {by}" for n, by in reasons["implied"].items()))
    out.append(". The others differ, and why:\n\n| | Options | Why |\n|---|---|---|\n")
    for group in reasons["kernel"]:
        fits = sorted(n for n in kernel if any(fnmatchcase(n, p) for p in group["names"]))
        out.append(f"| {group['title']} | {len(fits)} | {group['reason']} |\n")
    out.append("\nWhich options each of these lines means:\n")
    for group in reasons["kernel"]:
        fits = sorted(n for n in kernel if any(fnmatchcase(n, p) for p in group["names"]))
        out.append(f"\n**{group['title']}.** {names(fits)}\n")
    out.append("\n" + (HERE / "known-good/boards.md").read_text())
    return "".join(out)


def names(options: list[str]) -> str:
    """Options as one paragraph."""
    return ", ".join(f"`{name}`" for name in options)


if __name__ == "__main__":
    sys.exit(main())
