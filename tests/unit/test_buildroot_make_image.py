"""image.sh: what it refuses in one sentence, and what it asks of a stand-in for Buildroot."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TREE = CHECKOUT / "buildroot-package"

BUILDROOT = """\
export BR2_VERSION := 2026.02.3
DROPPED ?= no line
O ?= output
$(shell mkdir -p $(O))
$(shell echo $(MAKECMDGOALS) >>$(CURDIR)/asked)
print-version:
	@echo v6.7-8-g0f3e508c
gadgetd_cm4_defconfig:
	@mkdir -p $(O)
	@grep -v "$(DROPPED)" $(BR2_EXTERNAL)/configs/$@ >$(O)/.config
	@echo 'BR2_DEFCONFIG="$(BR2_EXTERNAL)/configs/$@"' >>$(O)/.config
clean:
	@rm -r $(O)/build
show-build-order:
	@echo busybox linux
source:
	@printf '$(BOLD)>>> linux custom Downloading$(PLAIN)\\n'
all:
	@mkdir -p $(O)/build $(O)/images
	@env >environment
	@mktemp >temporary
	@echo 'boot.img 10 MiB' >$(O)/images/gadgetd-sizes.txt
%-dirclean:
	@:
"""


class Machine:
    """A checkout, a machine that has what Buildroot needs, and a stand-in for Buildroot."""

    def __init__(self, top: Path) -> None:
        """Lay them out below `top`."""
        self.top = top
        self.checkout = top / "checkout"
        for name in ("buildroot-package", "rootfs-overlay"):
            shutil.copytree(
                CHECKOUT / name,
                self.checkout / name,
                symlinks=True,
                ignore=shutil.ignore_patterns("__pycache__"),  # another process may write there
            )
        self.tree = self.checkout / "buildroot-package"
        self.buildroot = top / "buildroot"
        (self.buildroot / "package").mkdir(parents=True)
        (self.buildroot / "package/Makefile.in").touch()
        (self.buildroot / "Makefile").write_text(BUILDROOT)
        (top / "bin").mkdir()
        for name in (
            "rsync",
            "cpio",
            "unzip",
            "bc",
            "file",
            "qemu-aarch64",
            "g++",
            "gcc",
            "ld",
            "wget",
            "bzip2",
        ):
            if not shutil.which(name, path="/usr/bin:/bin"):
                self.program(name, "")
        self.program("uname", "echo x86_64")
        self.program("df", "echo /dev/sda 99999999 1 20971520 1% /")

    def program(self, name: str, text: str) -> None:
        """Put a program before those of this machine."""
        (self.top / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.top / "bin" / name).chmod(0o755)

    def run(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run image.sh, from the directory above the checkout."""
        return subprocess.run(
            [self.tree / "image.sh"],
            cwd=self.top,
            env={
                "PATH": f"{self.top}/bin:/usr/bin:/bin",
                "HOME": str(self.top),
                "GADGETD_CACHE": str(self.top / "cache"),
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def build(self, **variables: str) -> str:
        """Run it with the stand-in for Buildroot to a good end; what it says."""
        done = self.run(BUILDROOT=str(self.buildroot), **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, **variables: str) -> str:
        """Run it to where it refuses; the two lines that it says then."""
        done = self.run(**variables)
        assert done.returncode == 1
        assert done.stderr.startswith("image: ")
        assert len(done.stderr.splitlines()) == 2
        return done.stderr

    def asked(self) -> list[str]:
        """What Buildroot has been asked for since the last time."""
        file = self.buildroot / "asked"
        lines = file.read_text().splitlines()
        file.unlink()
        return lines

    def environment(self) -> dict[str, str]:
        """What Buildroot's own programs had in their environment."""
        lines = (self.buildroot / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Everything that make image needs, but for a network."""
    return Machine(tmp_path)


class TestWhatItRefuses:
    """Early, in one sentence, with a hint."""

    def test_without_a_network_it_says_so(self, machine: Machine) -> None:
        said = machine.refused(BUILDROOT_GIT=f"file://{machine.top}/nowhere")
        assert "could not be fetched: there is no network, or" in said
        assert "make image BUILDROOT=DIR" in said

    def test_another_buildroot_under_the_same_name(self, machine: Machine) -> None:
        other = machine.top / "other"
        version = re.search(r"^version=(\S+)", (TREE / "image.sh").read_text(), re.MULTILINE)
        assert version
        git = ["git", "-C", str(other), "-c", "user.name=x", "-c", "user.email=x@example.org"]
        for command in (
            ["git", "init", "-q", str(other)],
            [*git, "commit", "-q", "--allow-empty", "-m", "x"],
            [*git, "tag", version[1]],
        ):
            subprocess.run(command, check=True)
        assert "has another Buildroot" in machine.refused(BUILDROOT_GIT=f"file://{other}")

    def test_a_directory_that_is_no_buildroot(self, machine: Machine) -> None:
        assert "is no Buildroot" in machine.refused(BUILDROOT=str(machine.top))

    def test_a_machine_without_the_programs_names_their_debian_packages(
        self, machine: Machine
    ) -> None:
        few = machine.top / "few"
        few.mkdir()
        for name in ("env", "bash", "dirname", "mkdir", "flock", "cat", "awk", "grep", "git"):
            found = shutil.which(name)
            if found:
                (few / name).symlink_to(found)
        for name in ("df", "uname"):
            (few / name).symlink_to(machine.top / "bin" / name)
        (few / "sh").symlink_to("/bin/sh")
        assert re.search(r"apt-get install .*\brsync\b", machine.refused(PATH=str(few)))

    def test_a_machine_without_certificates_names_their_debian_package(
        self, machine: Machine
    ) -> None:
        script = machine.tree / "image.sh"
        text = script.read_text()
        for there, file in (
            ("/etc/ssl/certs/ca-certificates.crt", machine.top / "missing"),
            ("/etc/debian_version", script),
        ):
            assert there in text
            text = text.replace(there, str(file))
        script.write_text(text)
        assert machine.refused().endswith(
            "apt-get install --no-install-recommends ca-certificates\n"
        )

    def test_a_machine_that_no_toolchain_is_for(self, machine: Machine) -> None:
        machine.program("uname", "echo aarch64")
        assert "needs an x86-64 PC: there is no toolchain for aarch64" in machine.refused()

    def test_a_disk_that_is_too_full(self, machine: Machine) -> None:
        machine.program("df", "echo /dev/sda 99999999 1 9437184 99% /")
        assert "has 9 GiB left" in machine.refused()

    @pytest.mark.parametrize("name", ["a cache", "a:cache", "a\tcache"])
    def test_names_that_make_cannot_read(self, machine: Machine, name: str) -> None:
        refused = machine.refused(GADGETD_CACHE=str(machine.top / name))
        assert f"there is a space or a colon in {machine.top}/{name}/image" in refused
        shutil.copytree(machine.buildroot, machine.top / name)
        assert f"colon in {machine.top}/{name}\n" in machine.refused(BUILDROOT=name)

    def test_a_buildroot_that_drops_a_line_of_the_defconfig(self, machine: Machine) -> None:
        done = machine.run(BUILDROOT=str(machine.buildroot), DROPPED="BR2_TARGET_ROOTFS_CPIO_ZSTD")
        assert done.returncode == 1
        assert "asked for: BR2_TARGET_ROOTFS_CPIO_ZSTD=y; found: nothing" in done.stderr
        assert "image: Buildroot 2026.02.3 does not take" in done.stderr
        assert "all" not in machine.asked()
        assert "all" in (machine.build() and machine.asked())


class TestWhatReachesBuildroot:
    """Where it builds, and with what."""

    def test_a_temporary_directory_that_exists(self, machine: Machine) -> None:
        machine.build(TMPDIR=str(machine.top / "nobody/made/this"))
        made = (machine.buildroot / "temporary").read_text()
        assert made.startswith(f"{machine.top}/cache/image/tmp/")

    def test_no_time_no_flags_and_no_language_of_the_callers(self, machine: Machine) -> None:
        machine.build(
            SOURCE_DATE_EPOCH="1", MAKEFLAGS="n", MAKELEVEL="3", MFLAGS="-n", LC_ALL="C.UTF-8"
        )
        assert "SOURCE_DATE_EPOCH" not in machine.environment()
        assert machine.environment()["MAKELEVEL"] == "1"
        assert machine.environment()["LC_ALL"] == "C"

    def test_leave_to_configure_as_root(self, machine: Machine) -> None:
        machine.build()
        assert machine.environment()["FORCE_UNSAFE_CONFIGURE"] == "1"

    def test_one_place_whatever_directory_is_the_current_one(self, machine: Machine) -> None:
        said = machine.build(GADGETD_CACHE="relative")
        assert f"ready: {machine.top}/relative/image/output/images/gadgetd" in said
        assert (machine.top / "relative/image/output/build").is_dir()
        assert not (machine.buildroot / "relative").exists()
        assert not (machine.buildroot / "output").exists()

    @pytest.mark.parametrize(("bold", "plain"), [("7", "27"), ("3", "23"), ("1;7", "0"), ("", "")])
    def test_its_progress_shows_on_every_terminal(
        self, machine: Machine, bold: str, plain: str
    ) -> None:
        variables = {"BOLD": rf"\033[{bold}m", "PLAIN": rf"\033[{plain}m"} if bold else {}
        assert "    1 of 2  linux\n" in machine.build(**variables)


class TestWhatIsBuiltAgain:
    """What Buildroot cannot know to be out of date."""

    @pytest.fixture(autouse=True)
    def built(self, machine: Machine) -> None:
        """Build once, and find nothing to do anew the second time."""
        machine.build()
        assert "clean" not in machine.asked()
        assert "anew" not in machine.build(LC_ALL="C.UTF-8")
        assert "clean" not in machine.asked()

    @pytest.mark.parametrize(
        "name",
        [
            *(
                "Config.in",
                "external.mk",
                "board/cm4/busybox.config",
                "configs/gadgetd_cm4_defconfig",
            ),
            *("package/gadgetd/Config.in", "package/gadgetd/gadgetd.mk"),
            *("patches/linux/linux.hash", "package/new/new.mk"),
        ],
    )
    def test_everything_after_a_change_of_what_configures_it(
        self, machine: Machine, name: str
    ) -> None:
        (machine.tree / name).parent.mkdir(exist_ok=True)
        with (machine.tree / name).open("a") as file:
            file.write("# changed\n")
        assert "has changed: building everything anew" in machine.build()
        asked = machine.asked()
        assert asked.index("clean") < asked.index("gadgetd_cm4_defconfig") < asked.index("all")

    def test_everything_after_a_change_of_buildroot(self, machine: Machine) -> None:
        makefile = machine.buildroot / "Makefile"
        makefile.write_text(BUILDROOT.replace("2026.02.3", "2026.02.4"))
        assert "has changed: building everything anew" in machine.build()
        assert "clean" in machine.asked()

    def test_everything_after_a_file_has_left_the_overlay(self, machine: Machine) -> None:
        new = machine.checkout / "rootfs-overlay/etc/new"
        new.write_text("x")
        assert "anew" not in machine.build()
        assert "clean" not in machine.asked()
        new.unlink()
        assert "rootfs-overlay has no etc/new any more: building everything" in machine.build()
        assert "clean" in machine.asked()
        assert "anew" not in machine.build()

    def test_one_package_after_a_change_of_its_fragment(self, machine: Machine) -> None:
        with (machine.tree / "board/cm4/linux.config").open("a") as file:
            file.write("# changed\n")
        assert "anew" not in machine.build()
        assert {line for line in machine.asked() if line.endswith("dirclean")} == {
            "linux-dirclean",
            "gadgetd-dirclean",
        }


class TestWhatItSays:
    """While it runs, and when it ends."""

    def test_buildroots_own_version_whatever_git_says_of_a_checkout_around_it(
        self, machine: Machine
    ) -> None:
        assert "is the one that is tested" not in machine.build()
        makefile = machine.buildroot / "Makefile"
        makefile.write_text(BUILDROOT.replace("2026.02.3", "2026.02.4"))
        assert "Buildroot 2026.02.4 is used; 2026.02.3 is the one" in machine.build()

    def test_the_cause_of_a_failure_and_not_what_a_configure_script_found(
        self, machine: Machine
    ) -> None:
        makefile = (machine.buildroot / "Makefile").read_text()
        (machine.buildroot / "Makefile").write_text(
            makefile.replace(
                "\t@env >environment\n",
                "\t@echo '>>> busybox 1.37.0 Building'\n"
                "\t@echo 'checking for error_at_line... yes'\n"
                '\t@echo "shell.c:7:1: error: no such thing"; exit 1\n',
            )
        )
        done = machine.run(BUILDROOT=str(machine.buildroot))
        assert done.returncode == 1
        assert "shell.c:7:1: error: no such thing" in done.stderr
        assert "checking for" not in done.stderr

    def test_a_configuration_that_is_not_there(self, machine: Machine) -> None:
        assert "there is no my.yaml" in machine.refused(CONFIG="my.yaml")

    def test_a_configuration_reaches_buildroot(self, machine: Machine) -> None:
        (machine.top / "my.yaml").write_text("usb: {}\n")
        machine.build(CONFIG="my.yaml")
        environment = machine.environment()
        assert environment["BR2_PACKAGE_GADGETD_CONFIG"] == str(machine.top / "my.yaml")


def test_the_boot_tests_kernel_has_a_temporary_directory_and_no_time_of_the_shells(
    machine: Machine,
) -> None:
    output = machine.top / "output"
    (output / "images/gadgetd").mkdir(parents=True)
    (output / "images/gadgetd/boot.img").touch()
    (output / "Makefile").write_text(f"printvars:\n\t@env >{output}/environment; mktemp >&2\n")
    done = subprocess.run(
        [machine.tree / "image-test.sh", "python"],
        cwd=machine.top,
        env={
            "PATH": "/usr/bin:/bin",
            "GADGETD_CACHE": "relative",
            "IMAGE_OUTPUT": "output",
            "TMPDIR": str(machine.top / "nobody/made/this"),
            "SOURCE_DATE_EPOCH": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.startswith(f"{machine.top}/relative/image/tmp/")
    assert "SOURCE_DATE_EPOCH" not in (output / "environment").read_text()
