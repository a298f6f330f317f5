"""The second table of docs/support.md: the machines with RDT, as the kernel's own resctrl shows them.

`python -m tests.vm.support_rdt` prints what the machine it runs on offers; `python -m tests.vm support` boots each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.kernel.resctrl import mounted, schemata
from tests.vm.machines import MACHINES

MOUNT_OPTIONS = ("cdp", "cdpl2", "mba_MBps")

HEAD = """
## Machines with RDT

What a guest of `make test-vm MACHINE=` shows in resctrl; a test on each fails where this says something else.

| machine | what it is | schemata | CLOSIDs | RMIDs | mount options | kernels |
| --- | --- | --- | --- | --- | --- | --- |
"""


def facts() -> dict[str, str]:
    """Column -> value, of the running guest; the same on every kernel. Needs root."""
    try:
        with mounted() as root:
            found = {
                "schemata": "; ".join(sorted(_line(name, domains) for name, domains in schemata(root).items())),
                "CLOSIDs": _smallest(root, "num_closids"),
                "RMIDs": _smallest(root, "num_rmids"),
            }
    except OSError:
        return dict.fromkeys(("schemata", "CLOSIDs", "RMIDs", "mount options"), "-")
    found["mount options"] = " ".join(filter(_mounts, MOUNT_OPTIONS))
    return {name: value or "-" for name, value in found.items()}


def _line(name: str, domains: Mapping[int, str]) -> str:
    values = {value.lstrip("0") for value in domains.values()}
    return f"{name} {' '.join(map(str, domains))} = {' '.join(values)}"


def _smallest(root: Path, file: str) -> str:
    counts = [int(path.read_text()) for path in root.glob(f"info/*/{file}")]
    return str(min(counts)) if counts else ""


def _mounts(option: str) -> bool:
    try:
        with mounted(option):
            return True
    except OSError:
        return False


def document(found: Mapping[str, Mapping[str, str]]) -> str:
    """The section. `found`: machine -> its facts."""
    lines = [(name, MACHINES[name].about, *values.values(), _kernels(name)) for name, values in found.items()]
    return HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def documented(text: str, machine: str) -> dict[str, str]:
    """`document` undone, of one machine."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {machine} |")]
    columns = [name.strip() for name in HEAD.splitlines()[-2].strip("|").split(" | ")]
    return dict(zip(columns[2:-1], line.strip("| ").split(" | ")[2:-1], strict=True))


def _kernels(machine: str) -> str:
    return " ".join(MACHINES[machine].kernels)


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(facts())}\n")
