"""tests/trees/resctrl/: what the kernels' resctrl really shows, from guests: `python -m tests.vm.capture_resctrl`.

In a guest, `python -m tests.vm.capture_resctrl OPTIONS` prints a tree as JSON: mounted with these options, with a
control group that has a setting on each line, and a monitoring group in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.kernel.resctrl import mounted, schemata, write
from tests.vm import guest
from tests.vm.fetch import VmError
from tests.vm.kernels import KERNELS
from tests.vm.machines import MACHINES

TREES = Path(__file__).resolve().parents[1] / "trees" / "resctrl"
LIMIT_S = 240

WANTED = {
    "l3-6.1": ("6.1", "l3", ""),
    "l3-6.12": ("6.12", "l3", ""),
    "l3-7.x": ("7.x", "l3", ""),
    "l3-mbps": ("7.x", "l3", "mba_MBps"),
    "cdp": ("7.x", "cdp", "cdp"),
    "cdp-6.1": ("6.1", "cdp", "cdp"),
    "l2-cdp": ("6.12", "l2", "cdpl2"),
    "both": ("7.x", "both", ""),
    "sparse": ("6.12", "sparse", ""),
    "shareable": ("7.x", "shareable", ""),
    "smba": ("7.x", "smba", ""),
    "amd": ("6.12", "amd", ""),
    "amd-6.1": ("6.1", "amd", ""),
    "few": ("6.12", "few", ""),
    "gaps": ("6.12", "gaps", ""),
    "nomba": ("7.x", "nomba", ""),
    "nomon": ("6.1", "nomon", ""),
    "mononly": ("6.12", "mononly", ""),
}
"""Tree -> kernel, machine, mount options."""


def capture(options: str) -> dict[str, str]:
    """File -> content; of the default group's tasks only the first, the others are those of the capture."""
    with mounted(*options.split()) as root:
        parent = root
        if schemata(root):
            parent = root / "batch"
            parent.mkdir()
            for name, domains in schemata(parent).items():
                write(parent / "schemata", f"{name}:{next(iter(domains))}={'3c' if name.startswith('L') else '40'}")
        if (parent / "mon_groups").exists():
            (parent / "mon_groups" / "web").mkdir()
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        return {str(path.relative_to(root)): path.read_text() for path in files} | {"tasks": "1\n"}


def main() -> None:
    """Those that are not there yet."""
    for name, (kernel, machine, options) in WANTED.items():
        tree = TREES / f"{name}.json"
        if tree.exists():
            continue
        job = f"cd {guest.TREE}; python -m tests.vm.capture_resctrl '{options}' >/run/results/tree"
        done = guest.run(KERNELS[kernel], job, LIMIT_S, sys.stdout.write, MACHINES[machine])
        if done.status != 0:
            raise VmError(f"{name}: {done.output} {done.log[-2000:]}")
        tree.write_text(f"{json.dumps(json.loads(done.files['tree']), indent=1)}\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(capture(sys.argv[1])))
    else:
        main()
