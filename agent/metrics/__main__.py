"""`python -m agent.metrics > docs/metrics.md`: the table of metric names as a page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from agent.metrics.cache_families import CACHE_FAMILIES
from agent.metrics.control_families import CONTROL_FAMILIES
from agent.metrics.family import Family
from agent.metrics.group_families import GROUP_FAMILIES
from agent.metrics.histograms import LE_S
from agent.metrics.host_families import HOST_FAMILIES
from agent.metrics.network_families import NETWORK_FAMILIES
from agent.metrics.sli_families import SLI_FAMILIES

INTRODUCTION = """\
# Metrics

<!-- Made by `python -m agent.metrics > docs/metrics.md`; edit agent/metrics/*_families.py instead. -->

`GET /metrics` on the address of the configuration's `[metrics]` (127.0.0.1:9753 unless told otherwise) shows the
agent's last tick; a scrape never touches the kernel. Before the first tick the answer is 503.

- What is not known is not exported: a missing series is not 0.
- Names end in their unit: seconds, bytes, cores, ratio. Counters end in `_total`; they start at 0 with the agent, those
  of kernel files with the group.
- `group` is the path below the root of the cpu hierarchy (bytes that are no UTF-8 are written as `\\xNN`), `class` the
  class of service (LSE, LSR, LS, BE, SYSTEM), `wait` the kind of wait (contention, throttle).
- Three formats, by the Accept header: text 0.0.4, OpenMetrics 1.0.0, and protobuf. Text has classic buckets, exact sums
  of the agent's own buckets, at every second power of two from {first:.2g} to {last:g} s. Protobuf has those and native
  histograms with the agent's own buckets, for a Prometheus with `--enable-feature=native-histograms`.
- `slackwater_culprit_wait_seconds_total` names `culprits_per_group` culprits per group, those with the most recent
  wait. A culprit that loses its place loses its series. Each second of wait is added to exactly one series.

"""


def page() -> str:
    """The whole of docs/metrics.md."""
    host = [family for family in HOST_FAMILIES if family.name.startswith("slackwater_node_")]
    agent = [family for family in HOST_FAMILIES if family not in host]
    sections = (
        ("Groups", GROUP_FAMILIES),
        ("Node", host),
        ("Agent", agent),
        ("Control", CONTROL_FAMILIES),
        ("Services' own figures", SLI_FAMILIES),
        ("Network", NETWORK_FAMILIES),
        ("Caches", CACHE_FAMILIES),
    )
    tables = "\n".join(line for title, families in sections for line in _section(title, families))
    return INTRODUCTION.format(first=LE_S[0], last=LE_S[-1]) + tables


def _section(title: str, families: Sequence[Family]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| name | type | labels | what |"
    yield "|---|---|---|---|"
    for family in families:
        yield f"| `{family.name}` | {family.kind.value} | {', '.join(family.labels)} | {family.help} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
