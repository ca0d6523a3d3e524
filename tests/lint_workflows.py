"""Checks .github/workflows as far as can be without GitHub: their form, and their shell lines.

`make lint` runs it. The form is GitHub's own JSON Schema, which check-jsonschema brings along; the
lines of each `run` go through shellcheck, and so does every shell script of the project.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[1]
WORKFLOWS = CHECKOUT / ".github" / "workflows"
SCRIPTS = ("*.sh", ".ci/run", "buildroot-package/**/*.sh")
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
BIN = Path(sys.executable).parent


def run_lines(text: str) -> Iterator[tuple[str, str]]:
    """Each step that runs a shell, as `job, step`, with its lines; expressions left out."""
    for job, described in yaml.safe_load(text)["jobs"].items():
        for number, step in enumerate(described["steps"], 1):
            if "run" in step:
                name = step.get("name", f"step {number}")
                yield f"{job}, {name}", _EXPRESSION.sub("EXPRESSION", step["run"])


def main() -> int:
    """Check everything; 1 if something is wrong, after saying what."""
    workflows = sorted(WORKFLOWS.glob("*.yml"))
    assert workflows, f"there is no workflow in {WORKFLOWS}"
    schema = ["--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run(
        [BIN / "check-jsonschema", *schema, *workflows], text=True, stdout=subprocess.PIPE
    )
    wrong = done.returncode
    if wrong:
        print(done.stdout)
    for path in workflows:
        for where, lines in run_lines(path.read_text()):
            done = subprocess.run(
                [BIN / "shellcheck", "--shell=bash", "-"],
                input=lines,
                text=True,
                stdout=subprocess.PIPE,
            )
            if done.returncode:
                print(f"{path.relative_to(CHECKOUT)}: {where}:{done.stdout}")
                wrong |= done.returncode
    scripts = sorted(path for pattern in SCRIPTS for path in CHECKOUT.glob(pattern))
    wrong |= subprocess.run([BIN / "shellcheck", "-x", *scripts], cwd=CHECKOUT).returncode
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
