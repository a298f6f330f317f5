"""Who lies in which partition of the caches."""

from __future__ import annotations

from agent.config import parse_config
from agent.control import partition_id
from agent.decisions.partitions import Partitions
from agent.decisions.tree import Tree
from agent.records import Group, Qos

BE, LS, LSR = partition_id(Qos.BE), partition_id(Qos.LS), partition_id(Qos.LSR)
CONFIG = """
[[partition]]
class = "LS"
[[partition]]
class = "LSR"
"""


def members(groups: dict[str, Qos], config: str = CONFIG) -> dict[str, int]:
    """Path -> partition, of those that are told of. Ids are 100 and up, in order."""
    tree = Tree(tuple(Group(100 + i, path, qos) for i, (path, qos) in enumerate(groups.items())))
    _, found = Partitions(parse_config(config, "f")).of(tree)
    return {tree.groups[member.row].path: member.partition_id for member in found}


def test_topmost_groups_of_a_class_lie_in_its_partition() -> None:
    groups = {
        "/": Qos.SYSTEM,
        "/web": Qos.LS,
        "/web/a": Qos.LS,
        "/batch": Qos.BE,
        "/batch/b": Qos.BE,
        "/sys": Qos.SYSTEM,
    }
    assert members(groups) == {"/web": LS, "/batch": BE}


def test_what_lies_in_a_be_group_is_batch_work_of_whatever_class_by_name() -> None:
    assert members({"/batch": Qos.BE, "/batch/a": Qos.SYSTEM}) == {"/batch": BE}


def test_a_be_group_that_holds_a_service_is_none_but_what_lies_in_it_is() -> None:
    groups = {"/all": Qos.BE, "/all/web": Qos.LS, "/all/job": Qos.BE}
    assert members(groups) == {"/all/web": LS, "/all/job": BE}


def test_a_class_within_another_has_its_own_and_one_without_a_partition_has_that_of_the_group_above() -> None:
    groups = {"/pod": Qos.LS, "/pod/db": Qos.LSR, "/pod/db/x": Qos.LSE, "/pod/helper": Qos.SYSTEM, "/lse": Qos.LSE}
    assert members(groups) == {"/pod": LS, "/pod/db": LSR}


def test_a_workload_of_its_own_has_all_that_lies_in_it_wherever_it_is() -> None:
    groups = {"/batch": Qos.BE, "/batch/big": Qos.BE, "/batch/big/a": Qos.BE, "/batch/b": Qos.BE, "/big": Qos.SYSTEM}
    config = '[[partition]]\nmatch = "/**/big/**"\nways = "0-10%"'
    assert members(groups, config) == {"/batch": BE, "/batch/big": 101, "/big": 104}


def test_a_workload_of_its_own_lies_with_its_class_while_it_has_none() -> None:
    """As when there are too few CLOSIDs: batch work is held back all the same."""
    paths = {"/big": Qos.BE, "/pod": Qos.LS, "/pod/big": Qos.SYSTEM, "/x/big": Qos.SYSTEM}
    groups = tuple(Group(7 + i, path, qos) for i, (path, qos) in enumerate(paths.items()))
    partitions = Partitions(parse_config(CONFIG + '[[partition]]\nmatch = "/**big"', "f"))
    _, found = partitions.of(Tree(groups))
    assert {member.partition_id: member.otherwise for member in found} == {7: BE, LS: LS, 9: LS, 10: None}


def test_partitions_are_named_after_class_or_path() -> None:
    partitions = Partitions(parse_config(CONFIG + '[[partition]]\nmatch = "/db"', "f"))
    parts, _ = partitions.of(Tree((Group(7, "/db", Qos.LS),)))
    assert [(part.id, part.name) for part in parts] == [(LS, "LS"), (LSR, "LSR"), (BE, "BE"), (7, "/db")]
