"""An emulated Debian in a folder: its tools, its making, and commands inside it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "python3-venv,ca-certificates"
#: What the host has to have; the emulator and the maker of the guest are downloaded as Debian packages and only unpacked.
HOST_PROGRAMS = ("apt-get", "dpkg-deb", "unshare", "mount", "chroot", "wget", "gpgv")
HOST_PACKAGES = ("debootstrap", "qemu-user-static", "debian-archive-keyring")
#: ELF header of an aarch64 program and which of its bits count; flags: open the emulator now, keep credentials.
_MAGIC = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_FLAGS = "OCF"


class Refused(RuntimeError):
    """The check cannot run here; the message says what to do."""


def refuse_early() -> None:
    """Raise Refused where a program or a right is missing, before anything is made."""
    missing = [name for name in HOST_PROGRAMS if shutil.which(name) is None]
    if missing:
        raise Refused(f"needs {', '.join(missing)}: run it on Debian 12 or Ubuntu 22.04 and later, on x86-64")
    if os.geteuid() != 0:
        raise Refused("needs to be root, to give the emulated system its own user ids: run it with sudo")


@dataclass(frozen=True)
class Guest:
    """The emulated system below `work`. Mounts and the emulator's registration end with each command."""

    work: Path

    @property
    def root(self) -> Path:
        return self.work / "debian"

    @property
    def tools(self) -> Path:
        return self.work / "tools"

    @property
    def emulator(self) -> Path:
        return self.tools / "usr/bin/qemu-aarch64-static"

    def fetch_tools(self) -> bool:
        """Download and unpack the emulator and debootstrap. False when they are there."""
        if self.tools.is_dir():
            return False
        part = self._fresh("tools.part")
        done = subprocess.run(["apt-get", "download", *HOST_PACKAGES], cwd=part, capture_output=True, text=True)
        if done.returncode:
            raise Refused(f"apt-get cannot download {', '.join(HOST_PACKAGES)} (try `apt-get update`): {done.stderr}")
        for archive in sorted(part.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", archive, part], check=True)
        part.rename(self.tools)
        return True

    def install(self) -> bool:
        """Make the system. False when it is there; an interrupted making starts again from the packages it had downloaded."""
        if self.root.is_dir():
            return False
        part = self._fresh("debian.part")
        packages = self.work / "packages"
        packages.mkdir(exist_ok=True)
        share = self.tools / "usr/share"
        # "container=lxc" makes debootstrap bind /dev/null and its like, which a user namespace may not create.
        command = [
            *("env", "container=lxc", f"DEBOOTSTRAP_DIR={share / 'debootstrap'}"),
            *("sh", str(self.tools / "usr/sbin/debootstrap"), "--arch=arm64", "--variant=minbase"),
            *(f"--include={PACKAGES}", f"--cache-dir={packages}"),
            *(f"--keyring={share / 'keyrings/debian-archive-keyring.gpg'}", SUITE, str(part), MIRROR),
        ]
        log = self.work / "debootstrap.log"
        done = self._emulating(shlex.join(command))
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            raise Refused(f"debootstrap failed; its log is {log}, which ends: {(done.stdout + done.stderr)[-400:]}")
        part.rename(self.root)
        return True

    def run(self, command: list[str], *, environment: str, cpu: str = "max") -> str:
        """Standard output of a command inside the system, which sees the work folder at /mnt. Raises Refused when it fails.

        environment  a virtual environment below /opt whose programs come first
        cpu          QEMU's name of the processor
        """
        path = f"PATH=/opt/{environment}/bin:/usr/bin:/bin"
        inside = ["env", "-i", path, "HOME=/tmp", "LANG=C.UTF-8", f"QEMU_CPU={cpu}", *command]
        root = shlex.quote(str(self.root))
        # No /sys: it describes the host's processors, and ONNX Runtime's ARM code crashes on what it finds there. And no `exec`: the first
        # process of a namespace survives its own fatal signals, so that a crash would wait for ever.
        script = f"""
            mount -t proc proc {root}/proc
            mount --rbind /dev {root}/dev
            mount --bind {shlex.quote(str(self.work))} {root}/mnt
            chroot {root} {shlex.join(inside)}
            exit $?
        """
        done = self._emulating(script)
        if done.returncode:
            raise Refused(f"inside the emulated system `{shlex.join(command)}` failed:\n{done.stderr[-2000:]}")
        return done.stdout

    def _emulating(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in namespaces of its own in which aarch64 programs run."""
        rule = f":qemu-aarch64:M::{_MAGIC}:{_MASK}:{self.emulator}:{_FLAGS}"
        prepared = f"""set -e
            echo ready >&2
            read go
            mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
            printf %s {shlex.quote(rule)} > /proc/sys/fs/binfmt_misc/register
            {script}"""
        process = subprocess.Popen(
            ["unshare", "--user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", prepared],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        first = process.stderr.readline()
        if first == "ready\n":
            for file in ("uid_map", "gid_map"):
                Path(f"/proc/{process.pid}/{file}").write_text("0 0 65536")
        try:
            out, errors = process.communicate("go\n")
        except BaseException:
            process.kill()  # and with it, all in its namespaces; they would not hear an interrupt
            raise
        if first != "ready\n":
            raise Refused(f"this machine gives no user namespace: {(first + errors).strip()}")
        if process.returncode and "binfmt_misc" in errors:
            raise Refused(
                f"this kernel keeps no binfmt_misc per user namespace, which needs Linux 6.7: {errors.strip()}"
            )
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def _fresh(self, name: str) -> Path:
        """An empty folder of that name in the work folder. Raises Refused while something is mounted below it."""
        folder = self.work / name
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        if any(line.split()[1].startswith(str(folder)) for line in mounts):
            raise Refused(f"something is mounted below {folder}; unmount it")
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)
