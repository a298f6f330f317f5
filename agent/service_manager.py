"""Tells the service manager that started us how we are, by datagrams to its socket. Without one all of it is nothing.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

STATUS_INTERVAL_NS = 10_000_000_000
"""How often the status is told where no watchdog wants to hear of us more often."""


class ServiceManager:
    """`ready` once, `alive` whenever it `is_due`, `stopping` in the end."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog_us = environ.get("WATCHDOG_USEC", "")
        half_ns = int(watchdog_us) * 1000 // 2 if watchdog_us.isdigit() else STATUS_INTERVAL_NS
        self._interval_ns = min(half_ns, STATUS_INTERVAL_NS)
        self._next_ns = 0

    def ready(self) -> None:
        """Measuring: whoever waits for this service may start."""
        self._send("READY=1")

    def is_due(self, now_ns: int) -> bool:
        """Whether it is time for `alive`: half of the watchdog's time has passed."""
        return bool(self._address) and now_ns >= self._next_ns

    def alive(self, now_ns: int, status: str) -> None:
        """Feed the watchdog. `status`: the line that `systemctl status` shows."""
        self._next_ns = now_ns + self._interval_ns
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.setblocking(False)  # a manager that does not read must not stop the loop
                ours.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("the service manager is not told %s: NOTIFY_SOCKET: %s", message.split()[0], error)
