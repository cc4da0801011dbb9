"""``heros.helper``, an import path of existing programs."""

from __future__ import annotations

import ipaddress
import logging
import subprocess
import sys
from contextlib import contextmanager

import pytest

from heros import helper
from heros.exceptions import HEROSError


@contextmanager
def unconfigured():
    """The root logger as if nobody had configured it, whatever pytest did."""
    root = logging.getLogger()
    handlers, root.handlers, level = root.handlers, [], root.level
    try:
        yield root
    finally:
        root.handlers = handlers
        root.setLevel(level)


@pytest.fixture
def name():
    name = "heros-test-helper"
    yield name
    logging.getLogger(name).setLevel(logging.NOTSET)


def test_get_logger_makes_messages_visible(name, monkeypatch):
    monkeypatch.delenv("HEROS_LOG", raising=False)
    with unconfigured() as root:
        logger = helper.get_logger(name)
        assert logger is logging.getLogger(name)
        assert logger.level == logging.NOTSET
        assert len(root.handlers) == 1
        assert root.level == logging.INFO
        helper.get_logger(name)
        assert len(root.handlers) == 1


def test_get_logger_leaves_a_configured_program_alone(name):
    handler = logging.NullHandler()
    with unconfigured() as root:
        root.addHandler(handler)
        root.setLevel(logging.ERROR)
        helper.get_logger(name)
        assert root.handlers == [handler]
        assert root.level == logging.ERROR


@pytest.mark.parametrize(("text", "level"), [("DEBUG", 10), ("warning", 30), ("5", 5), (" info ", 20)])
def test_the_environment_sets_the_level(name, monkeypatch, text, level):
    monkeypatch.setenv("HEROS_LOG", text)
    assert helper.get_logger(name).level == level


def test_a_level_that_is_none(name, monkeypatch):
    monkeypatch.setenv("HEROS_LOG", "loud")
    with pytest.raises(HEROSError, match="HEROS_LOG='loud' is not a level"):
        helper.get_logger(name)


def test_the_default_logger():
    assert helper.log.name == "heros"
    assert helper.get_logger() is helper.log


@pytest.mark.parametrize(
    ("key", "endpoint", "expected"),
    [
        ("@object/heros/camera/_health", "_health", "camera"),
        ("@object/heros/camera/frames", ".*", "camera"),
        ("@object/heros/a.b-c:d/_discover", "_discover", "a.b-c:d"),
        ("@object/heros/camera/_capabilities", "_health", None),
        ("@object/lab/camera/_health", "_health", None),
        ("@object/heros/camera", ".*", None),
        ("", ".*", None),
    ],
)
def test_object_name_from_keyexpr(key, endpoint, expected):
    assert helper.object_name_from_keyexpr(key, "@object", "heros", endpoint) == expected


def test_object_name_from_a_realm_with_special_characters():
    assert helper.object_name_from_keyexpr("@object/a.b/camera/x", "@object", "a.b") == "camera"
    assert helper.object_name_from_keyexpr("@object/axb/camera/x", "@object", "a.b") is None


def test_multicast_address():
    first, last = ipaddress.IPv4Address("224.0.1.0"), ipaddress.IPv4Address("238.255.255.255")
    addresses = {helper.generate_multicast_address(f"realm-{i}") for i in range(200)}
    assert len(addresses) > 190
    assert all(first <= ipaddress.IPv4Address(address) <= last for address in addresses)
    # What the original gives: machines with either package must scout on the same address.
    assert helper.generate_multicast_address("lab") == "236.70.15.254"


def test_a_logger_has_what_programs_call_on_it(name, monkeypatch, caplog):
    monkeypatch.delenv("HEROS_LOG", raising=False)
    logger = helper.get_logger(name)
    assert type(logging.getLogger("some-other-logger-of-a-test")) is logging.Logger
    logger.setLevel("debug")
    assert logger.level == logging.DEBUG
    logger.spam("not seen")
    logger.setLevel("5")
    logger.spam("seen %d", 1)
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [("SPAM", "seen 1")]


def test_a_level_for_all_loggers():
    """As ``boss --log`` does; in a process of its own, since it is for all of them, and for those that are started."""
    program = (
        "import logging, os; from heros.helper import get_logger\n"
        "other = logging.getLogger('other'); get_logger('boss').setLevel('error', globally=True)\n"
        "assert other.level == logging.getLogger('heros').level == logging.ERROR\n"
        "assert get_logger('later').level == logging.ERROR\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_logger_of_another_library_stays_what_it_is(name):
    class Own(logging.Logger):
        pass

    logging.setLoggerClass(Own)
    try:
        assert type(helper.get_logger(f"{name}-own")) is Own
    finally:
        logging.setLoggerClass(logging.Logger)
