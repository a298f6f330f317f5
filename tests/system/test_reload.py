"""SIGHUP has a running agent read its configuration anew: all of it, or nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.kernel.needs import needs
from tests.ports import free_port
from tests.system.command import Running, config_file, running, wait_for
from tests.system.test_stop import wait_until_serving

pytestmark = [needs("root", "bpf", "cgroup:cpu"), pytest.mark.slow]


def configuration(directory: Path, port: int, text: str) -> Path:
    return config_file(directory, f'metrics.address = "127.0.0.1:{port}"\n{text}')


def reload(command: Running, text: str) -> str:
    """The line that answers it."""
    command.lines.clear()
    command.popen.send_signal(signal.SIGHUP)
    return command.wait_for_line(text)


def scraped_with(command: Running, port: int, text: str) -> str:
    """The first answer of /metrics that has `text`."""

    def scrape() -> str | None:
        told = wait_until_serving(command, port)
        return told if text in told else None

    return wait_for(scrape, text)


def test_new_classes_are_in_the_next_tick(tmp_path: Path) -> None:
    port = free_port()
    with running("run", "--config", configuration(tmp_path, port, "")) as command:
        assert 'group="/",class="SYSTEM"' in wait_until_serving(command, port)
        configuration(tmp_path, port, '[[class]]\nmatch = "/"\nclass = "LSR"')
        reload(command, "the configuration was read anew")
        told = scraped_with(command, port, 'group="/",class="LSR"')
        assert 'slackwater_config_reloads_total{result="accepted"} 1' in told


def test_a_bad_one_changes_nothing_and_is_said_in_log_and_metrics(tmp_path: Path) -> None:
    """The line names key and value; the old classes stay; a good one later is accepted."""
    port = free_port()
    old = '[[class]]\nmatch = "/"\nclass = "LSR"\n'
    with running("run", "--config", configuration(tmp_path, port, old)) as command:
        wait_until_serving(command, port)
        configuration(tmp_path, port, "agent.tick_s = 0")
        assert "the configuration stays as it was" in reload(command, "tick_s = 0: allowed is 0.1 to 60 s")
        told = scraped_with(command, port, "slackwater_config_last_reload_refused 1.0\n")
        assert 'slackwater_config_reloads_total{result="refused"} 1' in told
        assert 'group="/",class="LSR"' in told
        configuration(tmp_path, port, old)
        reload(command, "the configuration was read anew")
        scraped_with(command, port, "slackwater_config_last_reload_refused 0.0\n")


def test_what_takes_a_restart_is_said(tmp_path: Path) -> None:
    port = free_port()
    with running("run", "--config", configuration(tmp_path, port, "")) as command:
        wait_until_serving(command, port)
        configuration(tmp_path, port, "agent.tick_s = 2")
        assert "[agent] takes a restart" in reload(command, "takes a restart")


def test_a_reload_switches_enforcement_on_and_off(tmp_path: Path) -> None:
    port = free_port()
    history = f'history.path = "{tmp_path}/history.db"\n'
    with running("run", "--config", configuration(tmp_path, port, "")) as command:
        assert 'slackwater_enforce_info{mode="off"} 1' in wait_until_serving(command, port)
        for mode in ("dry-run", "on", "off"):
            configuration(tmp_path, port, f'{history}enforce.mode = "{mode}"')
            reload(command, "the configuration was read anew")
            scraped_with(command, port, f'slackwater_enforce_info{{mode="{mode}"}} 1')
