"""What a dead predecessor has left, of whatever kind: put back by the next agent, or by `slackwater restore`."""

from __future__ import annotations

from agent.actuators.executor import Executor
from agent.actuators.report import Report
from agent.host import Host


def recovered(executor: Executor, host: Host) -> Report:
    """What became of it: of settings of groups, which are back by now; of the network and of resctrl. HostError."""
    report = executor.recovered
    items = list(report.items)
    # here: who has nothing to do with the network does not pay for it
    if executor.devices or (host.net_cls and not host.unified):
        from agent.network import restore_network

        items += restore_network(executor, host)
    if executor.resctrl:
        from agent.actuators.resctrl import restore_resctrl

        items += restore_resctrl(executor)
    return Report(tuple(items), report.notes)
