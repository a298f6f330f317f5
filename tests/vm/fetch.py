"""Debian packages by name, into a cache outside the tree, unpacked once; the host's own apt and dpkg stay as they are.

apt gets a configuration of its own here, with the one suite that is wanted, from the mirror that the host is
configured for; it checks the signature of the index and the hash of each package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class VmError(Exception):
    """One line: what is missing and what to do."""


def cache_folder() -> Path:
    """Where what was fetched is kept; it may be removed at any time."""
    home = os.environ.get("XDG_CACHE_HOME") or ("/var/cache" if os.geteuid() == 0 else str(Path.home() / ".cache"))
    return Path(home) / "slackwater"


def unpacked(name: str, suite: str, packages: Sequence[str]) -> Path:
    """The folder `name` of the cache with `packages` of `suite` in it; fetched if it is not there yet."""
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        content = Path(scratch) / "content"
        content.mkdir()
        _Apt(Path(scratch), suite).unpack(packages, content)
        _index_modules(content)
        try:
            content.rename(folder)  # whole or not at all
        except OSError:
            if not folder.is_dir():  # else another run was faster
                raise
    return folder


class _Apt:
    """apt with one suite and with its state in `scratch`."""

    def __init__(self, scratch: Path, suite: str) -> None:
        if shutil.which("apt-get") is None:
            raise VmError("no apt-get: kernels are fetched as Debian packages, on a Debian host")
        self._scratch, self._suite = scratch, suite
        for folder in ("lists/partial", "cache/archives/partial"):
            (scratch / folder).mkdir(parents=True)
        (scratch / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
        values = {
            "Dir::Etc::sourcelist": scratch / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::lists": scratch / "lists",
            "Dir::Cache": scratch / "cache",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "20",
            "APT::Sandbox::User": "root",
        }
        self._options = [word for key, value in values.items() for word in ("-o", f"{key}={value}")]

    def unpack(self, packages: Sequence[str], into: Path) -> None:
        self._run("apt-get", "-qq", "-o", "APT::Update::Error-Mode=any", "update")
        names = [name for package in packages for name in self._with_image(package)]
        self._run("apt-get", "-qq", "download", *(f"{name}/{self._suite}" for name in names))
        for archive in self._scratch.glob("*.deb"):
            self._run("dpkg-deb", "-x", str(archive), str(into))

    def _with_image(self, package: str) -> list[str]:
        """`package` itself, or instead of a kernel's metapackage the packages of its version.

        Up to 6.x that is linux-image-VERSION; from 7.0 on it is empty and its parts are in three more.
        """
        if not package.startswith("linux-image-"):
            return [package]
        (image,) = self._depends(package, "linux-image")
        return [image, *self._depends(image, "linux-(?:base|binary|modules)")]

    def _depends(self, package: str, name: str) -> list[str]:
        """The packages NAME-VERSION that `package` depends on."""
        said = self._run("apt-cache", "depends", package)
        return sorted(set(re.findall(rf"^\s*Depends: ({name}-\d\S*)", said, re.MULTILINE)))

    def _run(self, program: str, *arguments: str) -> str:
        options = self._options if program.startswith("apt") else []
        done = subprocess.run(
            [program, *options, *arguments], cwd=self._scratch, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")] or [done.stderr.strip()]
            raise VmError(f"cannot fetch from suite {self._suite} (is there a network?): {errors[0]}")
        return done.stdout


def _mirror() -> str:
    """The Debian mirror that the host's apt is configured for."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    uris = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    mirrors = sorted({uri for uri in uris if uri.rstrip("/").endswith("/debian")})
    if not mirrors:
        raise VmError("apt has no Debian mirror: add one to its sources and run apt-get update")
    return mirrors[0]


def _index_modules(content: Path) -> None:
    """modules.dep and its like, which a package's installation would have made."""
    for version in content.glob("**/lib/modules/*"):
        base = version.parents[2]
        subprocess.run(["depmod", "--basedir", str(base), version.name], check=True, env=_with_sbin())


def _with_sbin() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
