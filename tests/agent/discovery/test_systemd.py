import pytest

from agent.config import parse_config
from agent.discovery import Classifier
from agent.discovery.systemd import default_class
from agent.records import Qos


@pytest.mark.parametrize(
    ("path", "qos"),
    [
        ("/", Qos.SYSTEM),
        ("/init.scope", Qos.SYSTEM),
        ("/system.slice", Qos.SYSTEM),
        ("/system.slice/nginx.service", Qos.LS),
        ("/system.slice/system-getty.slice/getty@tty1.service", Qos.LS),
        ("/system.slice-x/a", Qos.SYSTEM),
        ("/user.slice", Qos.SYSTEM),
        ("/user.slice/user-1000.slice/session-2.scope", Qos.LS),
        ("/machine.slice/a", Qos.SYSTEM),
        ("/docker/0123/system.slice/a", Qos.SYSTEM),
        ("/jobs/1", Qos.SYSTEM),
    ],
)
def test_services_and_sessions_are_ls_and_all_the_rest_is_system(path: str, qos: Qos) -> None:
    assert default_class(path) is qos


def test_systemd_can_be_left_out() -> None:
    classify = Classifier(parse_config("[discovery]\nsystemd = false", "test.toml"))
    assert classify("/system.slice/nginx.service") is Qos.SYSTEM
