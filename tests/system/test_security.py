"""A secured realm: who has no certificate of it discovers nothing and calls nothing, and who has one, what it may.

Every process has a runtime directory of its own, so that they meet over the network only. A test that somebody gets
nothing first makes sure that it was there to get something: that its connection was refused (the log of Zenoh says so),
or that it is connected.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from heros.cli.main import main
from heros.cli.secure import secure
from heros.demo.loopback import free_port, zenoh_config
from heros.net import keys
from heros.secure import certificates
from heros.secure.configuration import CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, CONFIG_FILE, KEY_FILE
from heros.secure.directory import Setup
from heros.secure.members import MEMBER, OBSERVER, ROUTER, Member
from tests.harness import DEADLINE, ROOT, Child, wait_until

HERE = "127.0.0.1"
PEER = Path(__file__).with_name("security_peer.py")
ROUTE = """
import sys, zenoh
zenoh.try_init_log_from_env()
with zenoh.open(zenoh.Config.from_file(sys.argv[1])):
    print("READY", flush=True)
    sys.stdin.read()
"""


class Lab:
    """A set-up with one realm, and another one, in which nobody is; and the processes of a test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.realm = f"test-{uuid.uuid4().hex[:12]}"
        self.other_realm = f"{self.realm}-other"
        self.setup = Setup.create(directory / "setup", [self.realm, self.other_realm], days=10)
        self.children: list[Child] = []

    def add(
        self, name: str, role: str = MEMBER, port: int = 0, realm: str = "", hosts: tuple[str, ...] = (HERE,)
    ) -> Path:
        """A member and its configuration; it is new for all other members too."""
        member = Member(name, role, (realm or self.realm,), hosts, port)
        self.setup.add(member, days=1)
        return self.setup.directory / name / CONFIG_FILE

    def start(
        self,
        config: Path | str,
        program: Path | str = PEER,
        argument: object = None,
        log: str = "warn,zenoh::net::runtime::orchestrator=debug",
    ) -> Peer:
        """A process with a configuration, which says what it says on zenoh's log too."""
        peer = Peer(
            program,
            argument or self.realm,
            env={
                "HEROS_NET": None,
                "HEROS_RUNTIME_DIR": str(self.directory / f"r{len(self.children)}"),
                "HEROS_ZENOH_CONFIG": str(config),
                "RUST_LOG": log,
            },
        )
        self.children.append(peer)
        peer.ready()
        return peer

    def certify(
        self, name: str, hosts: tuple[str, ...] = (HERE,), days: float = 1, authority: Path | None = None
    ) -> None:
        """Give a member another certificate."""
        where = authority or self.setup.directory
        signs = certificates.Certified((where / CA_FILE).read_bytes(), (where / CA_KEY_FILE).read_bytes())
        certified = certificates.issue(signs, name, hosts, days)
        (self.setup.directory / name / CERTIFICATE_FILE).write_bytes(certified.certificate)
        (self.setup.directory / name / KEY_FILE).write_bytes(certified.key)

    def close(self) -> None:
        for child in reversed(self.children):
            child.close()


class Peer(Child):
    def ask(self, *command: object) -> Any:
        self.say(json.dumps(command))
        return json.loads(self.expect("DONE", 3 * DEADLINE))

    def complains(self, pattern: str) -> bool:
        return re.search(pattern, self.output) is not None  # zenoh logs to standard output


@pytest.fixture
def secured(runtime_directory: Path) -> Iterator[Lab]:
    runtime_directory.mkdir()
    lab = Lab(runtime_directory)
    yield lab
    lab.close()


def edited(config: Path, **changes: Any) -> Path:
    """A copy beside ``config`` with other values in it, as somebody makes it who has a mind to break in."""
    fields = json.loads("\n".join(line for line in config.read_text().splitlines() if not line.startswith("//")))
    for path, value in changes.items():
        *parents, last = path.split("__")
        where = fields
        for parent in parents:
            where = where[parent]
        where[last] = value
    copy = config.with_name("edited.json5")
    copy.write_text(json.dumps(fields))
    return copy


def greedy(config: Path) -> Path:
    """``config`` without access control: its owner allows itself everything."""
    return edited(config, access_control__enabled=False)


def gets_nothing(peer: Peer, realm: str, node_id: str = "0" * 32) -> None:
    """Neither with the means of heros nor with those of zenoh."""
    peer.ask("listen", f"@object/{realm}/**")
    peer.ask("listen", f"@heros/{realm}/**")
    assert peer.ask("ask", keys.discover(realm, "*")) == []
    assert peer.ask("ask", keys.directory(realm, "*")) == []
    assert peer.ask("greet", node_id, 1.0) == "none"
    assert peer.ask("call", "one", 1, 2, 1.0).startswith("HEROUnavailable")
    assert peer.ask("sees") == []
    assert peer.ask("hears") == []


# -- members --------------------------------------------------------------------------------------------------


def test_members_find_call_and_follow_each_other(secured: Lab) -> None:
    secured.add("server", port=free_port())
    secured.add("first")
    secured.add("second", hosts=())
    server, first, second = (
        secured.start(secured.setup.directory / name / CONFIG_FILE) for name in ("server", "first", "second")
    )
    server.ask("offer", "one")
    first.ask("offer", "two")
    for peer in (server, first, second):
        assert peer.ask("sees", "one", "two") == ["one", "two"]
    assert server.ask("call", "two", 1, 2) == 3
    assert first.ask("call", "one", 1, 2) == 3
    assert second.ask("call", "two", 1, 2) == 3  # through the server: it is a client
    assert second.ask("follow", "one", 5) == [0, 1, 2, 3, 4]
    assert second.ask("greet", second.ask("node_of", "one")) == "WELCOME"


def test_a_client_works_on_its_own_until_there_is_somebody_to_connect_to(secured: Lab) -> None:
    config = secured.add("server", port=free_port())
    client = secured.start(secured.add("client", hosts=()))
    client.ask("offer", "two")
    assert client.ask("sees", "two") == ["two"]
    server = secured.start(config)
    assert server.ask("call", "two", 1, 2) == 3


def test_processes_of_one_member_find_each_other_and_take_over_the_meeting_point(secured: Lab) -> None:
    config = secured.add("server", port=free_port())
    other = secured.add("other")
    first = secured.start(config)
    first.ask("offer", "one")
    second = secured.start(config)
    second.ask("offer", "two")
    assert second.ask("call", "one", 1, 2) == 3
    first.kill9()
    assert secured.start(other).ask("call", "two", 1, 2) == 3


# -- strangers ------------------------------------------------------------------------------------------------


def plain_tcp(lab: Lab, port: int) -> str:
    return zenoh_config(port, listen=False)


def no_certificate(lab: Lab, port: int) -> str:
    config = json.loads(zenoh_config(port, listen=False).replace("tcp/", "tls/"))
    config["listen"] = {"endpoints": []}
    config["transport"] = {"link": {"tls": {"root_ca_certificate": str(lab.setup.directory / CA_FILE)}}}
    return json.dumps(config)


def certificate_of_another_authority(lab: Lab, port: int) -> Path:
    """It trusts ours, and bears a member's name."""
    config = lab.setup.directory / "member" / CONFIG_FILE
    other = Setup.create(lab.directory / "another", [lab.realm], days=10)
    lab.certify("member", authority=other.directory)
    return greedy(config)


def expired_certificate(lab: Lab, port: int) -> Path:
    lab.certify("member", days=-1e-3)
    return greedy(lab.setup.directory / "member" / CONFIG_FILE)


@pytest.mark.parametrize(
    ("stranger", "reason"),
    [
        (plain_tcp, r"InvalidContentType"),
        (no_certificate, r"peer sent no certificates"),
        (certificate_of_another_authority, r"UnknownIssuer"),
        (expired_certificate, r"certificate expired"),
    ],
)
def test_who_has_no_valid_certificate_discovers_nothing_and_calls_nothing(
    secured: Lab, stranger: Any, reason: str
) -> None:
    port = free_port()
    config = secured.add("server", port=port)
    secured.add("member")
    server = secured.start(config)
    server.ask("offer", "one")
    outside = secured.start(stranger(secured, port))
    wait_until(lambda: server.complains(reason), what=lambda: server.output)
    gets_nothing(outside, secured.realm, server.ask("node_of", "one"))
    assert outside.ask("lonely") is True


def test_a_server_whose_certificate_is_for_another_host_is_not_connected_to(secured: Lab) -> None:
    config = secured.add("server", port=free_port())
    member = secured.add("member")
    secured.certify("server", hosts=("elsewhere.example",))
    server = secured.start(config)
    server.ask("offer", "one")
    careful = secured.start(member)
    wait_until(lambda: careful.complains("certificate not valid for name"), what=lambda: careful.output)
    gets_nothing(careful, secured.realm, server.ask("node_of", "one"))
    careless = secured.start(edited(member, transport__link__tls__verify_name_on_connect=False))
    assert careless.ask("call", "one", 1, 2) == 3


# -- certificates without rights ------------------------------------------------------------------------------


def test_a_certificate_of_another_realm_discovers_nothing_of_this_one(secured: Lab) -> None:
    config = secured.add("server", port=free_port())
    guest = secured.add("guest", realm=secured.other_realm)
    server = secured.start(config)
    server.ask("offer", "one")
    outside = secured.start(edited(guest, connect=json_of(config)["connect"], access_control__enabled=False))
    assert outside.ask("peers", 1) == 1
    gets_nothing(outside, secured.realm, server.ask("node_of", "one"))
    outside.ask("offer", "two")
    assert server.ask("sees", "one") == ["one"]


def test_a_removed_member_discovers_nothing_once_the_others_know(secured: Lab) -> None:
    config = secured.add("server", port=free_port())
    kept = shutil.copytree(secured.add("member").parent, secured.directory / "kept") / CONFIG_FILE
    server, member = secured.start(config), secured.start(kept)
    server.ask("offer", "one")
    assert member.ask("call", "one", 1, 2) == 3
    secured.setup.remove("member")
    member.end()
    server.end()
    server = secured.start(config)
    server.ask("offer", "one")
    removed = secured.start(greedy(kept))
    assert removed.ask("peers", 1) >= 1
    gets_nothing(removed, secured.realm, server.ask("node_of", "one"))


def test_a_link_ends_when_its_certificate_expires(secured: Lab) -> None:
    config = secured.add("server", port=free_port())
    member = secured.add("member")
    server = secured.start(config)
    server.ask("offer", "one")
    secured.certify("member", days=15 / 86400)  # time enough to start and to call
    peer = secured.start(member)
    assert peer.ask("call", "one", 1, 2) == 3
    assert peer.ask("lonely") is True
    gets_nothing(peer, secured.realm, server.ask("node_of", "one"))


def test_zenoh_tells_names_to_who_has_a_certificate_without_rights(secured: Lab) -> None:
    """As the documentation says it does. If it stops to, so should the documentation."""
    config = secured.add("server", port=free_port())
    guest = secured.add("guest", realm=secured.other_realm)
    server = secured.start(config)
    outside = secured.start(
        edited(guest, connect=json_of(config)["connect"]), log="zenoh::net::routing::dispatcher::resource=debug"
    )
    assert outside.ask("peers", 1) == 1
    server.ask("offer", "one")
    name = f"Register resource {keys.health(secured.realm, 'one')}"
    wait_until(lambda: outside.complains(re.escape(name)), what=lambda: outside.output)
    gets_nothing(outside, secured.realm, server.ask("node_of", "one"))


# -- roles ----------------------------------------------------------------------------------------------------


def test_an_observer_sees_which_heros_there_are_and_nothing_else(secured: Lab) -> None:
    config = secured.add("server", port=free_port())
    observer = secured.add("observer", OBSERVER)
    server = secured.start(config)
    server.ask("offer", "one")
    for number, settings in enumerate((observer, greedy(observer))):
        looker = secured.start(settings)
        known = [f"new{i}" for i in range(number)] + ["one"]
        assert looker.ask("sees", *known) == known
        server.ask("offer", f"new{number}")
        known = sorted([*known, f"new{number}"])
        assert looker.ask("sees", *known) == known
        assert looker.ask("greet", server.ask("node_of", "one"), 1.0) == "none"
        looker.ask("offer", "mine")
        assert server.ask("sees") == known
        if number:
            assert "is there but did not answer" in looker.ask("call", "one", 1, 2, 1.0)
        looker.close()


def test_members_talk_through_a_router_which_keeps_others_out(secured: Lab) -> None:
    """Nobody else listens, so that there is no other way."""
    port = free_port()
    router_config = secured.add("router", ROUTER, port=port)
    config, member, guest = (
        secured.add("server", hosts=()),
        secured.add("member", hosts=()),
        secured.add("guest", hosts=(), realm=secured.other_realm),
    )
    router = secured.start(router_config, ROUTE, relative(router_config))
    server, client = secured.start(config), secured.start(member)
    server.ask("offer", "one")
    assert client.ask("call", "one", 1, 2) == 3
    assert client.ask("follow", "one", 3) == [0, 1, 2]
    outside = secured.start(edited(guest, connect=json_of(member)["connect"], access_control__enabled=False))
    assert outside.ask("peers", 1) == 1
    gets_nothing(outside, secured.realm, server.ask("node_of", "one"))
    stranger = secured.start(no_certificate(secured, port))
    wait_until(lambda: router.complains("peer sent no certificates"), what=lambda: router.output)
    gets_nothing(stranger, secured.realm, server.ask("node_of", "one"))


def json_of(config: Path) -> Any:
    return json.loads(edited(config).read_text())


def relative(config: Path) -> Path:
    """A copy with whole paths, for what does not know where the file lies."""
    tls = json_of(config)["transport"]["link"]["tls"]
    tls = {key: str(config.parent / value) if isinstance(value, str) else value for key, value in tls.items()}
    return edited(config, transport__link__tls=tls)


# -- the page of the documentation ----------------------------------------------------------------------------


def test_the_commands_of_the_documentation(secured: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each is run, in order; then a program of the one computer calls a HERO of the other."""
    page = (ROOT / "docs/security.rst").read_text()
    commands = [shlex.split(line) for line in re.findall(r"^ +\$ (.*)$", page, re.MULTILINE)]
    here = {"192.168.1.10": HERE, "7447": str(free_port()), "192.168.1.11": HERE}
    monkeypatch.chdir(tmp_path)
    ran = set()
    for program, *words in commands:
        if program == "cd":
            monkeypatch.chdir(words[0])
        elif program == "heros":
            ran.add(words[1])
            result = CliRunner().invoke(main, [here.get(word, word) for word in words])
            assert result.exit_code == 0, f"{words}: {result.output}"
            if words[1] == "add" and words[2] == "laptop":
                kept = shutil.copytree(tmp_path, secured.directory / "kept") / "lab-secure"
        else:
            assert program in ("pip", "export")
    assert ran == set(secure.commands)
    assert f"HEROS_ZENOH_CONFIG=$HOME/{(kept / 'control/zenoh.json5').relative_to(kept.parent)}" in page
    secured.realm = "lab"
    control, microscope, laptop = (
        secured.start(kept / name / CONFIG_FILE) for name in ("control", "microscope", "laptop")
    )
    control.ask("offer", "one")
    assert microscope.ask("call", "one", 1, 2) == 3
    assert laptop.ask("call", "one", 1, 2) == 3
