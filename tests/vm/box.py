"""The box (box.sh), built once for each recipe, in the cache: `python -m tests.vm.box` prints the path for Vagrant."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.vm.fetch import VmError, cache_folder

RECIPE = Path(__file__).with_name("box.sh")


def folder() -> Path:
    """Where slackwater.box, box.img, vmlinuz, initrd.img and key are; VmError: one line."""
    place = cache_folder() / f"box-{hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as scratch:
        content = Path(scratch) / "content"
        done = subprocess.run(
            [RECIPE, content], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            raise VmError(f"no box: {(done.stdout.splitlines() or ['box.sh failed'])[-1]}")
        try:
            content.rename(place)  # whole or not at all
        except OSError:
            if not place.is_dir():  # else another run was faster
                raise
    for old in {*place.parent.glob("box-*")} - {place}:
        shutil.rmtree(old, ignore_errors=True)
    return place


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{folder() / 'slackwater.box'}\n")
    except VmError as error:
        sys.exit(str(error))
