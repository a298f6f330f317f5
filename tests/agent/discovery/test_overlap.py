import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.discovery.overlap import globs_overlap
from agent.discovery.rules import glob_regex

PATHS = ["/" + "/".join(parts) for count in range(4) for parts in itertools.product(("a", "ab", "b"), repeat=count)]
GLOBS = st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "*b", "/", "a**"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("/a", "/a", True),
        ("/a", "/b", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/*/b", True),
        ("/a/*", "/a", False),
        ("/a/**", "/a", True),
        ("/a/**", "/**/z", True),
        ("/**", "/", True),
        ("/**/x", "/x", True),
        ("/a*/c", "/*b/c", True),
        ("/a*/c", "/*b/d", False),
        ("/a/*/c", "/a/b", False),
        ("/*", "/a/b", False),
    ],
)
def test_two_globs_overlap_when_some_path_is_matched_by_both(one: str, other: str, *, overlap: bool) -> None:
    assert globs_overlap(one, other) is overlap
    assert globs_overlap(other, one) is overlap


@given(GLOBS, GLOBS)
def test_a_path_that_both_match_is_never_missed(one: str, other: str) -> None:
    if any(glob_regex(one).fullmatch(path) and glob_regex(other).fullmatch(path) for path in PATHS):
        assert globs_overlap(one, other)


@given(st.sampled_from(PATHS), st.sampled_from(PATHS))
def test_paths_without_wild_cards_overlap_only_with_themselves(one: str, other: str) -> None:
    assert globs_overlap(one, other) is (one == other)
