"""The kernels of the matrix and the emulator, as data: Debian packages by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """One kernel of the matrix. `package` is a metapackage: its image package is what it depends on."""

    name: str
    suite: str
    package: str = "linux-image-amd64"  # not -cloud-: that flavour has no 9p


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("6.1", "bookworm"),
        Kernel("6.12", "trixie"),
        Kernel("7.x", "trixie-backports"),
    )
}

GUEST_CPUS, GUEST_MEMORY_MB = 2, 2048

KERNEL_ARGUMENTS = (
    "console=ttyS0",
    "panic=-1",  # a panic ends QEMU, which is told -no-reboot
    "oops=panic",
    "mitigations=off",
    # An emulated CPU stands still while the host has other work. That is neither a stall (a guest that hangs is the
    # host's to cut off) nor a bad clock source, nor a timer that does not work ("IO-APIC + timer doesn't work!").
    "rcupdate.rcu_cpu_stall_timeout=120",
    "watchdog_thresh=60",
    "tsc=reliable",
    "no_timer_check",
)

GUEST_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""What the guest needs before it has its root; what they depend on is in modules.dep."""

OLDEST_EMULATOR = (10, 0)
"""QEMU 7.2 (Debian 12) leaves garbage in EFLAGS after cmpxchg16b: kernel 6.12 dies of it in one boot of ten or so.
Without that instruction (cx16=off) numpy refuses to start, and kernel 7.x gives no task storage to the scheduler's
tracepoints. So an older QEMU is not used; the backports of the host's own Debian have a newer one."""

EMULATOR_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")
EMULATOR_PROGRAM = "qemu-system-x86_64"
