from __future__ import annotations

import json
from pathlib import Path

import pytest
import zenoh

from heros.entry import Entry
from heros.exceptions import DecodeError, HEROSError
from heros.net import config, engine, keys
from heros.net.discovery import Directory, checked_entry
from heros.net.greeting import Greeting
from heros.net.packets import CLIENT, REPLIES, SERVER
from heros.transport import Peer

LEASE = "transport/link/tx/lease"


def test_keys() -> None:
    assert keys.health("lab", "laser") == "@object/lab/laser/_health"
    assert keys.discover("lab", "*") == "@object/lab/*/_discover"
    assert keys.node_of(keys.alive("lab", "abc")) == "abc"
    assert keys.node_of(keys.changes("lab", "abc")) == "abc"
    assert keys.sender_of(keys.inbox("lab", "to", SERVER, "from")) == "from"
    assert keys.inbox("lab", "to", SERVER) != keys.inbox("lab", "to", CLIENT)


def test_everything_includes_every_key() -> None:
    everything = [zenoh.KeyExpr(key) for key in keys.everything("lab")]
    for key in (
        keys.health("lab", "*"),
        keys.discover("lab", "*"),
        keys.alive("lab"),
        *(keys.inbox("lab", "to", which) for which in (SERVER, CLIENT, REPLIES)),
        keys.directory("lab"),
        keys.changes("lab"),
    ):
        assert any(one.includes(zenoh.KeyExpr(key)) for one in everything)
    assert not any(one.includes(zenoh.KeyExpr(keys.health("other", "*"))) for one in everything)


@pytest.mark.parametrize(
    ("realm", "address"), [("heros", "230.122.197.219"), ("lab", "236.70.15.254"), ("größe", "233.166.169.135")]
)
def test_multicast_address_of_a_realm(realm: str, address: str) -> None:
    assert config.generate_multicast_address(realm) == address


@pytest.fixture
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEROS_ZENOH_CONFIG", raising=False)
    monkeypatch.delenv("HEROS_SEP_MULTICAST", raising=False)
    monkeypatch.setattr(config, "_overrides", {})


@pytest.mark.usefixtures("_clean")
class TestSessionConfig:
    def test_ours_where_the_user_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert json.loads(config.session_config("heros").get_json(LEASE)) == 60_000
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", "{transport: {link: {tx: {lease: 1234}}}}")  # JSON5: keys unquoted
        assert json.loads(config.session_config("heros").get_json(LEASE)) == 1234

    def test_a_sender_waits_as_long_as_the_lease(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def patience() -> int:
            value: int = json.loads(config.session_config("heros").get_json(config.PATIENCE))
            return value

        assert patience() == 60_000_000
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", "{transport: {link: {tx: {lease: 1234}}}}")
        assert patience() == 1_234_000
        config.update({LEASE: 99})
        assert patience() == 99_000
        config.update({config.PATIENCE: 17})
        assert patience() == 17

    def test_the_program_comes_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", "{transport: {link: {tx: {lease: 1234}}}}")
        config.update({LEASE: 99, "connect/endpoints": ["tcp/127.0.0.1:1"]})
        built = config.session_config("heros")
        assert json.loads(built.get_json(LEASE)) == 99
        assert json.loads(built.get_json("connect/endpoints")) == ["tcp/127.0.0.1:1"]

    @pytest.mark.parametrize(
        ("realm", "value", "separate"),
        [("lab", "1", True), ("lab", "True", True), ("lab", "0", False), ("heros", "1", False)],
    )
    def test_separate_multicast(self, monkeypatch: pytest.MonkeyPatch, realm: str, value: str, separate: bool) -> None:
        monkeypatch.setenv("HEROS_SEP_MULTICAST", value)
        address = json.loads(config.session_config(realm).get_json("scouting/multicast/address"))
        assert (address == f"{config.generate_multicast_address(realm)}:7446") == separate

    def test_what_is_no_configuration_is_told_with_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", "{nosuch: 1}")
        with pytest.raises(HEROSError, match=r"HEROS_ZENOH_CONFIG.*nosuch"):
            config.session_config("heros")
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", __file__)
        with pytest.raises(HEROSError, match=r"HEROS_ZENOH_CONFIG.* in .*test_net_keys_and_config"):
            config.session_config("heros")
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", "/no/such/zenoh.json5")
        with pytest.raises(HEROSError, match=r"HEROS_ZENOH_CONFIG is neither .*/no/such"):
            config.session_config("heros")
        monkeypatch.delenv("HEROS_ZENOH_CONFIG")
        config.update({"no/such/key": 1})
        with pytest.raises(HEROSError, match=r"update_config.*no/such/key"):
            config.session_config("heros")

    def test_nothing_is_told_of_where_in_its_source_zenoh_has_found_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", '{"connect": {"endpoints": ["127.0.0.1:7447"]}}')
        with pytest.raises(HEROSError, match=r"<protocol>/<address>.*: 127\.0\.0\.1:7447$"):
            config.session_config("heros")

    def test_a_path_of_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("ca.pem", "key.pem"):
            (tmp_path / name).touch()
        tls = {"root_ca_certificate": "ca.pem", "connect_private_key": str(tmp_path / "key.pem")}
        file = tmp_path / "zenoh.json5"
        file.write_text("// a comment\n" + json.dumps({"transport": {"link": {"tls": tls, "tx": {"lease": 1234}}}}))
        monkeypatch.chdir(tmp_path.parent)
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", f"{tmp_path.name}/zenoh.json5")
        built = config.session_config("heros")
        assert json.loads(built.get_json(LEASE)) == 1234
        assert json.loads(built.get_json("transport/link/tls/root_ca_certificate")) == str(tmp_path / "ca.pem")
        assert json.loads(built.get_json("transport/link/tls/connect_private_key")) == str(tmp_path / "key.pem")
        assert json.loads(built.get_json("transport/link/tls/listen_certificate")) is None
        (tmp_path / "key.pem").unlink()
        with pytest.raises(HEROSError, match=r"tls/connect_private_key .* cannot be read.*No such file.*key\.pem"):
            config.session_config("heros")


def test_the_reason_of_a_nested_error() -> None:
    said = "No listener: [a: in use (os error 98) at /a/b-9c/tcp.rs:61.] at /a/unicast.rs:338."
    assert engine.reason(Exception(said)) == "No listener: [a: in use (os error 98)]"


GREETINGS = [
    b"",
    b"[]",
    b"{}",
    b'{"protocol": "2", "pid": 1, "host": "h"}',
    b'{"protocol": 2, "pid": 1}',
    b"\xff",
    b"[" * 9999,
]


@pytest.mark.parametrize("data", GREETINGS, ids=lambda data: repr(data[:20]))
def test_a_greeting_that_makes_no_sense(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Greeting.from_json(data)


def test_a_greeting() -> None:
    greeting = Greeting.of(Peer("abc", 12, "host"))
    assert Greeting.from_json(greeting.to_json()) == greeting


def test_an_entry_must_be_of_its_node_and_realm() -> None:
    entry = Entry("lab", "laser", "i1", "n1")
    assert checked_entry(entry, "lab", "n1") is entry
    for realm, node in (("other", "n1"), ("lab", "n2")):
        with pytest.raises(DecodeError, match="laser"):
            checked_entry(entry, realm, node)


def test_a_directory_counts_its_changes() -> None:
    directory = Directory()
    first, second = Entry("lab", "laser", "i1", "n1"), Entry("lab", "laser", "i2", "n1")
    assert (directory.add(first), directory.add(second), directory.remove(first), directory.remove(first)) == (
        1,
        2,
        3,
        None,
    )
    fields = json.loads(directory.to_json())
    assert fields["version"] == 3
    assert [Entry.from_dict(item) for item in fields["entries"]] == [second]
