"""The metric families of the machine and of the agent itself. Pure.

Values are in base units; one that is None or NaN is not exported.
"""

from __future__ import annotations

from agent.metrics.family import US_PER_S, Family, HostColumn, LabelColumn, Labels, counter, gauge, info
from agent.records import SELF_EVENTS
from agent.units import NS_PER_S


def _seconds(ns: float | None) -> float | None:
    return None if ns is None else ns / NS_PER_S


def _seconds_of_us(us: float | None) -> float | None:
    return None if us is None else us / US_PER_S


def _event(kind: str) -> HostColumn:
    return HostColumn(lambda v: v.tick.agent.events.get(kind), (("kind", kind),))


def _stall(resource: str, stall: str) -> Labels:
    return (("resource", resource), ("stall", stall))


HOST_FAMILIES: tuple[Family, ...] = (
    gauge("node_cpus", "CPUs of the machine.", HostColumn(lambda v: v.tick.node.cpus)),
    counter(
        "node_cpu_seconds_total",
        "CPU time used on the machine since boot.",
        HostColumn(lambda v: _seconds(v.tick.node.cpu_used_ns)),
    ),
    gauge(
        "node_cpu_used_cores",
        "CPU time used on the machine per second in the last tick.",
        HostColumn(lambda v: v.profile.node_used_cores),
    ),
    gauge("node_memory_total_bytes", "Memory of the machine.", HostColumn(lambda v: v.tick.node.memory_total_bytes)),
    gauge(
        "node_memory_available_bytes",
        "Memory that can be had without swapping (MemAvailable).",
        HostColumn(lambda v: v.tick.node.memory_available_bytes),
    ),
    counter(
        "node_pressure_seconds_total",
        "PSI: time in which some or all (full) tasks of the machine stalled on a resource.",
        HostColumn(lambda v: _seconds_of_us(v.tick.node.psi_cpu_some_us), _stall("cpu", "some")),
        HostColumn(lambda v: _seconds_of_us(v.tick.node.psi_memory_some_us), _stall("memory", "some")),
        HostColumn(lambda v: _seconds_of_us(v.tick.node.psi_memory_full_us), _stall("memory", "full")),
        HostColumn(lambda v: _seconds_of_us(v.tick.node.psi_io_some_us), _stall("io", "some")),
        HostColumn(lambda v: _seconds_of_us(v.tick.node.psi_io_full_us), _stall("io", "full")),
    ),
    info(
        "agent_build_info",
        "Version of the agent.",
        LabelColumn(lambda v: (("version", v.version),)),
        labels=("version",),
    ),
    info(
        "agent_source_info",
        "Where the waits come from: bpf or cgroupfs.",
        LabelColumn(lambda v: (("source", v.tick.source.value),)),
        labels=("source",),
    ),
    gauge("agent_groups", "Groups in the last tick.", HostColumn(lambda v: len(v.tick.groups))),
    counter("agent_ticks_total", "Number of the last tick.", HostColumn(lambda v: v.tick.number)),
    gauge(
        "agent_tick_interval_seconds",
        "True length of the last tick.",
        HostColumn(lambda v: _seconds(v.tick.interval_ns)),
    ),
    gauge(
        "agent_sample_age_seconds",
        "Age of the figures: time since the end of the last tick.",
        HostColumn(lambda v: _seconds(v.now_ns - v.tick.time_ns)),
    ),
    counter(
        "agent_cpu_seconds_total",
        "CPU time of the agent's process.",
        HostColumn(lambda v: _seconds(v.tick.agent.cpu_ns)),
    ),
    gauge(
        "agent_resident_memory_bytes",
        "Resident memory of the agent's process.",
        HostColumn(lambda v: v.tick.agent.rss_bytes),
    ),
    counter(
        "agent_bpf_run_seconds_total",
        "Run time of the agent's BPF programs.",
        HostColumn(lambda v: _seconds(v.tick.agent.bpf_run_ns)),
    ),
    counter(
        "agent_bpf_runs_total",
        "Runs of the agent's BPF programs. Like their run time measured in one tick of many; between those it is what "
        "was measured per context switch.",
        HostColumn(lambda v: v.tick.agent.bpf_runs),
    ),
    counter(
        "agent_context_switches_total", "Context switches seen by BPF.", HostColumn(lambda v: v.tick.agent.switches)
    ),
    counter("agent_waits_total", "Waits seen by BPF, before sampling.", HostColumn(lambda v: v.tick.agent.waits)),
    counter(
        "agent_samples_produced_total",
        "Samples put into a batch; consumed + dropped, once read.",
        HostColumn(lambda v: v.tick.agent.produced),
    ),
    counter("agent_samples_consumed_total", "Samples read by the agent.", HostColumn(lambda v: v.tick.agent.consumed)),
    counter(
        "agent_samples_lost_total",
        "Samples that are missing in the figures: dropped (ring full), unknown (length not known), "
        "groups_refused (group table full), malformed, vanished_threads (without BPF: threads, not samples, that "
        "ended since the tick before).",
        HostColumn(lambda v: v.tick.agent.dropped, (("reason", "dropped"),)),
        HostColumn(lambda v: v.tick.agent.unknown, (("reason", "unknown"),)),
        HostColumn(lambda v: v.tick.agent.groups_refused, (("reason", "groups_refused"),)),
        HostColumn(lambda v: v.tick.agent.malformed, (("reason", "malformed"),)),
        HostColumn(lambda v: v.tick.agent.vanished_threads, (("reason", "vanished_threads"),)),
    ),
    counter(
        "agent_samples_incomplete_total",
        "Samples in counts and sums, but not in percentiles (sketch_refused: no memory) or culprits "
        "(pairs_refused: matrix full).",
        HostColumn(lambda v: v.tick.agent.sketch_refused, (("reason", "sketch_refused"),)),
        HostColumn(lambda v: v.tick.agent.pairs_refused, (("reason", "pairs_refused"),)),
    ),
    counter(
        "agent_samples_skipped_total",
        "Waits that are not samples on purpose: sampled_out (overload), own (the agent's own threads).",
        HostColumn(lambda v: v.tick.agent.sampled_out, (("reason", "sampled_out"),)),
        HostColumn(lambda v: v.tick.agent.own, (("reason", "own"),)),
    ),
    counter(
        "agent_events_lost_total",
        "Throttle and cgroup events that found their ring full.",
        HostColumn(lambda v: v.tick.agent.events_lost),
    ),
    counter(
        "agent_events_total",
        "What happened to the agent: "
        + ", ".join(f"{kind} ({what})" for kind, what in SELF_EVENTS.items())
        + ", clock_jumps (ticks whose length was not believable), counter_resets (counters seen to fall).",
        *map(_event, SELF_EVENTS),
        HostColumn(lambda v: v.profile.clock_jumps, (("kind", "clock_jumps"),)),
        HostColumn(lambda v: v.profile.counter_resets, (("kind", "counter_resets"),)),
    ),
    gauge(
        "agent_unreadable_directories",
        "Groups that the last scan could not list; those below them are unknown.",
        HostColumn(lambda v: v.tick.agent.unreadable_directories),
    ),
    gauge("agent_sampling_factor", "One wait in so many is sent.", HostColumn(lambda v: v.tick.agent.sampling)),
)
