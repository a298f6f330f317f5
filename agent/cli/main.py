"""The process around the command: signals, streams, and how it ends. Imports little, so that soon nothing can go wrong.

SIGINT and SIGTERM are one thing, a request to stop: before the agent's loop handles them (agent/loop.py) they are a
KeyboardInterrupt, after the command they are nothing.
"""

from __future__ import annotations

import atexit
import gc
import io
import signal
import sys
from collections.abc import Sequence

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point."""
    words = sys.argv[1:] if arguments is None else arguments
    # What the interpreter collects when it ends may crash in msgspec 0.22, which then frees types twice (msgspec#717).
    atexit.register(gc.freeze)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _show_what_the_terminal_cannot()
        from agent.cli.commands import cli

        cli.main(args=arguments, prog_name="slackwater")
    except KeyboardInterrupt:
        if words[:1] == ["run"]:  # it runs until it is stopped
            sys.exit(0)
        if sys.stderr:
            sys.stderr.write("slackwater: interrupted\n")
        sys.exit(_INTERRUPTED)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _show_what_the_terminal_cannot() -> None:
    """A name in a script that the terminal's encoding does not have is shown escaped, and is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
