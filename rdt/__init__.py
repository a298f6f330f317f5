"""The kernel's resctrl: partitions of the last-level cache and of memory bandwidth, and their counters.

Standard library only. `bitmask`, `schemata` and `layout` are pure; `info` reads facts, `monitor`
counters, `group` writes. `python -m rdt` is for a person at a shell. Source: Documentation/filesystems/resctrl.rst.
"""
