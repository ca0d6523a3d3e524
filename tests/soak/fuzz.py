"""Bytes as a configuration, led by which lines of gadgetd.config and PyYAML they reach: Atheris.

    python -m tests.soak.fuzz SEED SECONDS

A file is either taken or refused with a sentence, in less than a second: whatever else comes of
it ends this, with the bytes in a file that is named, and exit status 1. It is counted for the soak
how many were tried.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.soak import count

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "rootfs-overlay/etc/gadgetd.yaml.example"
LONGEST = 4096
"""Bytes of a file. Longer ones are for tests/unit/test_hostile_input.py."""
_TRIED = re.compile(r"^Done (\d+) runs|stat::number_of_executed_units: (\d+)", re.MULTILINE)


def main() -> int:
    """Fuzz in a process of its own, which libFuzzer ends; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fuzz", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=int)
    options = parser.parse_args()
    found = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, text in enumerate(examples()):
        (found / "corpus").mkdir(exist_ok=True)
        (found / "corpus" / f"example-{number}").write_text(text)
    (found / "words").write_text(words())
    limits = (f"-max_len={LONGEST}", "-timeout=2", f"-dict={found}/words", "-print_final_stats=1")
    chosen = (f"-seed={options.seed % (1 << 32)}", f"-max_total_time={options.seconds}")
    process = (sys.executable, "-c", "from tests.soak.fuzz import target; target()")
    done = subprocess.run(
        [*process, *limits, *chosen, f"-artifact_prefix={found}/", str(found / "corpus")],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    tried = max((int(a or b) for a, b in _TRIED.findall(done.stdout)), default=0)
    count("inputs: a configuration, led by coverage", tried)
    print(f"{tried} configurations")
    if done.returncode or not tried:
        print(done.stdout[-5000:])
        return 1
    return 0


def examples() -> list[str]:
    """The example that is shipped, with its options out of their comments one by one."""
    text = EXAMPLE.read_text()
    return [text, "{}\n", *re.findall(r"^# ?([a-z_]+:.*(?:\n#  .*)*)", text, re.MULTILINE)]


def words() -> str:
    """libFuzzer's dictionary: what the file may say."""
    from gadgetd.config.options import TABLE, Option

    keys = {row.key for row in TABLE}
    for row in TABLE:
        if not isinstance(row, Option):
            keys |= {option.key for option in row.options}
    return "".join(f'"{word}: "\n' for word in sorted(keys)) + '"true"\n"- "\n"*a"\n"&a "\n"64G"\n'


def target() -> None:
    """What libFuzzer calls with its bytes."""
    import time

    import atheris

    with atheris.instrument_imports(include=["gadgetd.config", "yaml"]):
        import yaml

        from gadgetd.config import load, options  # noqa: F401 - instrumented here, used below
        from gadgetd.errors import ConfigError
    fast, path = getattr(yaml, "CSafeLoader", None), Path("gadgetd.yaml")

    def parse(data: bytes) -> None:
        begin = time.process_time()
        said = ""
        try:
            load.parse(data, path)
        except ConfigError as error:
            said = error.message
        assert said.isprintable(), said
        assert len(said) < 2000, said
        assert time.process_time() - begin < 1

    def each_loader(data: bytes) -> None:
        if fast is not None:
            del yaml.CSafeLoader
            parse(data)  # In Python, whose lines can be told apart.
            yaml.CSafeLoader = fast  # type: ignore[misc]
        parse(data)

    atheris.Setup(sys.argv, each_loader)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
