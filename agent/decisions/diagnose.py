"""Why a group is slow, from who ran while it waited, from its own quota, and from the machine's use. Pure.

    its quota made up `throttle_pct` of its wait        own quota; own load when the machine is full
    by its own figure it is slow, but hardly waits      the network, when BE sends `be_sends_pct` of what it may
                                                        by some device; else perhaps the cache (diagnose_cache.py)
    BE ran during `culprit_pct` of its contention wait  batch work on the CPU
    it waited for itself, and BE fills the machine      the same: BE has the CPUs that it would spread to
    others or itself did                                own load

What is not known is None: the cause that was found last stands.
"""

from __future__ import annotations

import math

import numpy as np

from agent.config_laws import EnforceConfig
from agent.config_network import NetworkConfig
from agent.control import Cause
from agent.decisions.diagnose_cache import Shares, judge_cache
from agent.decisions.tree import Tree, total
from agent.quantity import RATE, format_quantity
from agent.records import NOBODY_ID, NetworkProfile, Profile, Tick
from agent.units import NS_PER_S


def diagnose(
    row: int,
    tree: Tree,
    tick: Tick,
    profile: Profile,
    config: EnforceConfig,
    *,
    by_own_figure: bool,
    be_sends: str | None = None,
    be_cache: Shares | None = None,
) -> tuple[Cause, str] | None:
    """The cause for the group in `row`, and the figures that show it. `by_own_figure`: that says that it is slow, not a
    wait. `be_sends`: see `batch_traffic`. `be_cache`: what batch work has of the cache.
    """
    contention_ns, throttle_ns = float(tick.wait.contention_ns[row]), float(tick.wait.throttle_ns[row])
    wait_ns = contention_ns + throttle_ns
    if math.isnan(wait_ns):
        return None
    throttle_pct = throttle_ns / wait_ns * 100 if wait_ns else 0.0
    if throttle_pct >= config.throttle_pct:
        return _own_quota(throttle_pct, tick, profile, config)
    run_ns = float(profile.cpu_used_cores[row]) * tick.interval_ns
    if by_own_figure and wait_ns < (wait_ns + run_ns) * config.little_wait_pct / 100:
        waited = f"it waited for the CPU {wait_ns / (wait_ns + run_ns) * 100:.1f} % of the time that it wanted to run"
        if be_sends:
            return Cause.NETWORK, f"{waited}, and {be_sends}"
        cause, why = judge_cache(row, tree, profile, be_cache, config)
        return cause, f"{waited}; {why}"
    return _who_ran(row, tree, tick, profile, config)


def batch_traffic(network: NetworkProfile | None, config: NetworkConfig) -> str | None:
    """By which device batch work sends much of what it may, with figures; None: by none, or it is not known."""
    for device in network.devices if network else ():
        link, sent = device.sample.link_bytes_per_s, device.class_bytes_per_s.get("BE", math.nan)
        if link is None:
            continue
        may = link * config.be_low_pct / 100
        if sent >= may * config.be_sends_pct / 100:
            return f"batch work sends {format_quantity(sent, RATE)} by {device.sample.name}"
    return None


def _own_quota(throttle_pct: float, tick: Tick, profile: Profile, config: EnforceConfig) -> tuple[Cause, str] | None:
    used_pct = profile.node_used_cores / tick.node.cpus * 100
    if math.isnan(used_pct):
        return None
    what = f"its own quota made up {throttle_pct:.0f} % of its wait"
    if used_pct >= config.full_pct:
        return Cause.OWN_LOAD, f"{what}, but the machine is {used_pct:.0f} % busy"
    return Cause.OWN_QUOTA, what


def _who_ran(row: int, tree: Tree, tick: Tick, profile: Profile, config: EnforceConfig) -> tuple[Cause, str] | None:
    pairs, id = tick.culprits, tick.groups[row].id
    mine = (pairs.victim_ids == id) & (pairs.culprit_ids != NOBODY_ID)
    wait_ns, culprit_ids = pairs.wait_ns[mine], pairs.culprit_ids[mine]
    total_ns = float(wait_ns.sum())
    if not total_ns:
        return None
    rows = [tree.row.get(culprit_id, -1) for culprit_id in culprit_ids.tolist()]
    is_be = np.array([culprit >= 0 and bool(tree.is_be[culprit]) for culprit in rows])
    be_pct = float(wait_ns[is_be].sum()) / total_ns * 100
    during = f"of {total_ns / NS_PER_S:.3g} s of contention wait"
    if be_pct >= config.culprit_pct:
        return Cause.BATCH_ON_CPU, f"batch work ran during {be_pct:.0f} % {during}"
    own_pct = float(wait_ns[culprit_ids == id].sum()) / total_ns * 100
    if be_pct + own_pct >= config.culprit_pct and _batch_fills(tree, tick, profile, config):
        return Cause.BATCH_ON_CPU, f"itself ran during {own_pct:.0f} % {during}, and batch work has the other CPUs"
    return Cause.OWN_LOAD, f"services or itself ran during {100 - be_pct:.0f} % {during}"


def _batch_fills(tree: Tree, tick: Tick, profile: Profile, config: EnforceConfig) -> bool:
    """The machine is full, and would not be without batch work. Where groups have equal weights the scheduler may leave
    all threads of a service on one CPU and those of batch work on another: that is balanced.
    """
    full_cores = tick.node.cpus * config.full_pct / 100
    be_used_cores = total(profile.cpu_used_cores, tree.alive(tree.be_rows, tick))
    return profile.node_used_cores >= full_cores > profile.node_used_cores - be_used_cores
