"""The house itself: the wheel, the make targets, the pins, the documents."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def make(*arguments: str) -> str:
    """Output of `make`, as called from a shell and not from the make that runs these tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_targets() -> set[str]:
    """The targets that `make` prints."""
    return set(re.findall(r"^make (\w+)", make(), re.MULTILINE))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with our wheel and those that it needs."""
    folder = tmp_path_factory.mktemp("dist")
    make("bundle", f"DIST={folder}")
    return folder


@pytest.fixture(scope="module")
def wheel(bundle: Path) -> Path:
    (path,) = bundle.glob("slackwater-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a new environment with the wheel; its dependencies are borrowed from the one that runs the tests."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(home / "bin/python")]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def run_installed(bin_: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of that environment where no compiler, and no other program, can be found."""
    argv = [str(bin_ / command[0]), *command[1:]]
    return subprocess.run(argv, cwd=bin_, env={"PATH": str(bin_)}, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_wheel_holds_all_that_was_built(wheel: Path) -> None:
    """The extension, the BPF object and the licences are in it; the C sources and the tests are not."""
    assert "-manylinux" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        bpf_object = archive.read("native/slackwater.bpf.o")
    assert bpf_object.startswith(b"\x7fELF")
    assert "native/_slackwater.abi3.so" in names
    assert {"LICENSE", "LICENSE.GPL-2.0", "NOTICE"} <= {Path(name).name for name in names}
    assert not [name for name in names if name.endswith((".c", ".h")) or name.startswith("tests")]


@pytest.mark.slow
def test_wheel_brings_its_own_libbpf(installed: Path) -> None:
    """The extension and libbpf are mapped from the new environment, not from the tree or from the host."""
    script = "import native._slackwater; print(open('/proc/self/maps').read())"
    maps = run_installed(installed, "python", "-c", script).stdout
    mapped = set(re.findall(r"\S+/(?:_slackwater|libbpf|libelf)\S*", maps))
    assert {Path(path).name.split(".")[0].split("-")[0] for path in mapped} == {"_slackwater", "libbpf", "libelf"}
    assert all(Path(path).is_relative_to(installed.parent) for path in mapped)


@pytest.mark.slow
def test_wheel_runs_without_a_compiler(installed: Path) -> None:
    """`slackwater --version` and `slackwater doctor` work with nothing else in PATH."""
    version = run_installed(installed, "slackwater", "--version")
    assert version.returncode == 0, version.stderr
    assert PROJECT["version"] in version.stdout
    doctor = run_installed(installed, "slackwater", "doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


@pytest.mark.slow
def test_install_needs_no_network_and_uninstall_leaves_nothing(bundle: Path, tmp_path: Path) -> None:
    """Into another root, as a packager does: nothing names that root, and a configuration that is there stays."""
    root = tmp_path / "root"
    configuration = root / "etc/slackwater/slackwater.toml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text("# ours\n")
    words = (f"DIST={bundle}", f"DESTDIR={root}", "PREFIX=/usr")
    assert "pip download" not in make("install", *words)
    assert configuration.read_text() == "# ours\n"
    assert (root / "usr/bin/slackwater").readlink() == Path("/opt/slackwater/bin/slackwater")
    assert (root / "opt/slackwater/bin/slackwater").read_text().startswith("#!/opt/slackwater/bin/python")
    assert subprocess.run(["grep", "-rlF", str(root), str(root)], check=False, stdout=subprocess.PIPE).stdout == b""
    unit = (root / "etc/systemd/system/slackwater.service").read_text()
    program = re.findall(r"^ExecStart=(\S+)", unit, re.MULTILINE)[0]
    assert (root / program.lstrip("/")).exists()
    assert f"kept, since it was changed: {configuration}" in make("uninstall", *words)
    assert files_below(root) == {"etc/slackwater/slackwater.toml"}
    make("install", *words)
    configuration.write_text((ROOT / "deploy/slackwater.toml").read_text())
    make("uninstall", *words)
    assert files_below(root) == set()


def test_make_alone_prints_the_targets() -> None:
    assert make_targets() >= {"setup", "run", "test", "check", "fuzz", "bench", "wheel"}


@pytest.mark.slow
def test_setup_does_nothing_twice() -> None:
    """What make runs it also prints; the second time that is nothing."""
    make("setup")
    assert [line for line in make("setup").splitlines() if "Nothing to be done" not in line] == []


def test_every_dependency_is_pinned() -> None:
    """requirements.txt has one exact version for each dependency that the package declares."""
    pins = re.findall(r"^\s*([\w.-]+)==\S+$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    declared = [re.split(r"[<>=]", requirement)[0] for requirement in PROJECT["dependencies"]]
    assert set(declared) <= set(pins)
    assert len(pins) == len(set(pins))


def test_changelog_names_this_version() -> None:
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Each relative link names a file of the tree; each `make x` is a target."""
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    assert set(re.findall(r"`make (\w+)", text)) <= make_targets()
