import time

import pytest

from agent.config import parse_config
from agent.discovery import Classifier
from agent.discovery.rules import glob_regex
from agent.records import Qos


def classifier(text: str = "") -> Classifier:
    return Classifier(parse_config(text, "test.toml"))


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("/", "/", True),
        ("/a", "/a", True),
        ("/a", "/a/b", False),
        ("/a", "/ab", False),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/*", "/a", False),
        ("/a/*.service", "/a/nginx.service", True),
        ("/a/x-*-y/z", "/a/x-1-y/z", True),
        ("/a/x-*-y/z", "/a/x-1/2-y/z", False),
        ("/a/**", "/a", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab", False),
        ("/**", "/", True),
        ("/**", "/a/b", True),
        ("/**/x", "/x", True),
        ("/**/x", "/a/b/x", True),
        ("/**/x", "/a/bx", False),
        ("/**/**/x", "/x", True),
        ("/a/**/x", "/a/x", True),
        ("/a/**/x", "/a/b/c/x", True),
        ("/a/**/x", "/ax", False),
        ("/a**z", "/a/b/z", True),
        ("/a.b", "/aXb", False),
        (r"/dev-disk\x2dby.swap", r"/dev-disk\x2dby.swap", True),
        ("/[a]", "/a", False),
        ("/[a]", "/[a]", True),
        ("/a/*", "/a/b\nc", True),
        ("/a/**", "/a/b\nc", True),
    ],
)
def test_a_star_stays_in_its_component_and_two_stars_cross_them(glob: str, path: str, matches: bool) -> None:
    assert bool(glob_regex(glob).fullmatch(path)) is matches


def test_the_first_rule_that_matches_gives_the_class() -> None:
    """Also before systemd's defaults, and in the order of the globs of one rule."""
    classify = classifier(
        """
        [[class]]
        match = "/system.slice/batch.service"
        class = "BE"
        [[class]]
        match = ["/system.slice/**", "/jobs/**"]
        class = "LSR"
        """
    )
    assert classify("/system.slice/batch.service") is Qos.BE
    assert classify("/system.slice/nginx.service") is Qos.LSR
    assert classify("/jobs/7") is Qos.LSR
    assert classify("/user.slice/user-0.slice") is Qos.LS


def test_ten_thousand_paths_against_twenty_rules_take_less_than_a_second_of_cpu() -> None:
    classify = classifier("".join(f'[[class]]\nmatch = "/pool-{i}/**/job-*"\nclass = "BE"\n' for i in range(20)))
    paths = [f"/pool-{i % 40}/a/b/job-{i}" for i in range(10_000)]
    start_s = time.process_time()
    classes = [classify(path) for path in paths]
    assert time.process_time() - start_s < 1
    assert classes.count(Qos.BE) == 5_000
