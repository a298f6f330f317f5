"""Build `native._slackwater`, the C side for Python: `python -m native.build` (in place, only if something changed).

The headers are the declarations: the C preprocessor turns them into cffi's cdef, nothing is typed twice.
setup.py uses the same `ffibuilder` (cffi_modules); both run in the root of the project.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
MODULE = "native._slackwater"
HEADERS = (
    "bpf/sched_wait.h",
    "bpf/throttle.h",
    "bpf/cgroup.h",
    "native/sketch.h",
    "native/ring.h",
    "native/groups.h",
    "native/events.h",
    "native/probe.h",
    "bpf/net_class.h",
    "native/net.h",
    "native/perf.h",
)
LIBRARIES = ("bpf", "elf", "z", "m")
COMPILE_FLAGS = ("-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


def sources() -> list[str]:
    """The C files of the module, relative to the root."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("native/*.c"))


def includes() -> str:
    """C text that includes each header once."""
    return "".join(f'#include "{header}"\n' for header in HEADERS)


def cdef() -> str:
    """What the headers declare, as cffi wants it: no macros, no assertions, inline functions as plain ones."""
    drop = ("_Static_assert(...)", "static", "inline")
    command = ["cc", "-E", "-P", "-DSLACKWATER_CDEF", f"-I{ROOT}", *(f"-D{word}=" for word in drop), "-"]
    return subprocess.run(command, input=includes(), capture_output=True, text=True, check=True).stdout


def ffibuilder() -> FFI:
    """For setuptools: cffi_modules=["native/build.py:ffibuilder"]."""
    ffi = FFI()
    ffi.cdef(cdef())
    ffi.set_source(
        MODULE,
        includes(),
        sources=sources(),
        depends=inputs(),
        include_dirs=["."],
        libraries=list(LIBRARIES),
        extra_compile_args=list(COMPILE_FLAGS),
    )
    return ffi


def inputs() -> list[str]:
    """All that the module is made of, relative to the root."""
    headers = {*HEADERS, *(str(path.relative_to(ROOT)) for path in ROOT.glob("native/*.h"))}
    return [*sources(), *sorted(headers), "native/build.py"]


def is_built() -> bool:
    """Whether the module is younger than everything it is made of."""
    built = [path.stat().st_mtime_ns for path in ROOT.glob("native/_slackwater*.so")]
    return bool(built) and min(built) > max((ROOT / path).stat().st_mtime_ns for path in inputs())


def build() -> None:
    """Compile in place; what lies between goes to build/."""
    from setuptools import Distribution  # here, since a build that has nothing to do should be quick

    os.chdir(ROOT)
    command = Distribution({"packages": ["native"], "cffi_modules": ["native/build.py:ffibuilder"]}).get_command_obj(
        "build_ext"
    )
    command.inplace = True
    command.force = True  # distutils compares with what lies in build/, perhaps of another checkout
    command.ensure_finalized()
    command.run()


if __name__ == "__main__" and not is_built():
    build()
