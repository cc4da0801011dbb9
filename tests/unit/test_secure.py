"""Who may take part in a secured lab, certificates, configurations, and the command that writes them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zenoh
from click.testing import CliRunner, Result
from cryptography import x509

from heros.cli.main import main
from heros.exceptions import HEROSError
from heros.net import keys, packets
from heros.secure import certificates
from heros.secure.configuration import MESSAGES, access_control, configuration
from heros.secure.directory import Setup
from heros.secure.members import MEMBER, OBSERVER, ROUTER, Member

HOST = ("127.0.0.1",)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def read_config(path: Path) -> Any:
    return json.loads("\n".join(line for line in path.read_text().splitlines() if not line.startswith("//")))


# -- members --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "-a", "a/b", "..", "a.example", "ä", "a" * 65, "a b", "a\n"])
def test_a_name_that_cannot_be_a_common_name_or_a_directory(name: str) -> None:
    with pytest.raises(HEROSError, match="cannot name a member"):
        Member(name, MEMBER, ("lab",))


@pytest.mark.parametrize(
    "host", ["", "a_b", "-a", "a..b", "1.2.3", "1.2.3.4.5", "fe80::1%eth0", "tls/a", "a:1", "*.b", "ä"]
)
def test_a_host_that_is_neither_a_name_nor_an_address(host: str) -> None:
    with pytest.raises(HEROSError, match=r"neither|interface"):
        Member("a", MEMBER, ("lab",), (host,))


@pytest.mark.parametrize("host", ["localhost", "a.b-c.example", "127.0.0.1", "::1", "3com.example"])
def test_a_host(host: str) -> None:
    assert Member("a", MEMBER, ("lab",), (host,)).hosts == (host,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"role": "king"}, "no role"),
        ({"realms": ()}, "no realm"),
        ({"realms": ("a/b",)}, "cannot name a realm"),
        ({"realms": ("@a",)}, "cannot name a realm"),
        ({"port": 65536}, "no port"),
        ({"hosts": ()}, "Say its host"),
        ({"role": ROUTER, "port": 0}, "router"),
    ],
)
def test_a_member_that_makes_no_sense(changes: dict[str, Any], reason: str) -> None:
    fields = Member("a", MEMBER, ("lab",), HOST, 7447).to_dict()
    assert Member.from_dict(fields).to_dict() == fields
    with pytest.raises(HEROSError, match=reason):
        Member.from_dict(fields | changes)


# -- certificates ---------------------------------------------------------------------------------------------


def test_a_certificate_serves_both_ends_and_names_its_hosts() -> None:
    authority = certificates.new_authority("ours", 10)
    certified = certificates.issue(authority, "laser", ["laser.example", "10.0.0.7", "::1"], 5)
    certificate = x509.load_pem_x509_certificate(certified.certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {oid._name for oid in usage} == {"serverAuth", "clientAuth"}
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["laser.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7", "::1"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    described = certificates.describe(certified.certificate, authority.certificate)
    assert described.name == "laser"
    assert described.begins < datetime.now(UTC) < described.expires < datetime.now(UTC) + timedelta(days=5, minutes=1)
    with pytest.raises(HEROSError, match="not of this authority"):
        certificates.describe(certified.certificate, certificates.new_authority("ours", 10).certificate)


def test_no_certificate_outlives_its_authority() -> None:
    with pytest.raises(HEROSError, match="outlive the authority"):
        certificates.issue(certificates.new_authority("ours", 10), "laser", [], 11)


def test_what_is_no_authority() -> None:
    one, other = certificates.new_authority("one", 10), certificates.new_authority("other", 10)
    for authority, reason in (
        (certificates.Certified(one.certificate, other.key), "does not belong"),
        (certificates.Certified(b"", one.key), "not a certificate"),
        (certificates.Certified(one.certificate, b"?"), "cannot be read"),
    ):
        with pytest.raises(HEROSError, match=reason):
            certificates.issue(authority, "laser", [], 5)


# -- configurations -------------------------------------------------------------------------------------------

SERVER = Member("server", MEMBER, ("lab", "private"), ("server.example", "10.0.0.7", "fd00::7"), 7447)
PEER = Member("peer", MEMBER, ("lab",), ("peer.example",))
CLIENT = Member("client", MEMBER, ("lab",))
GATE = Member("gate", ROUTER, ("lab",), ("10.0.0.1",), 7448)
WATCH = Member("watch", OBSERVER, ("lab",), ("10.0.0.9",))
ELSE = Member("else", MEMBER, ("elsewhere",), ("10.0.0.5",), 7447)
ALL = [SERVER, PEER, CLIENT, GATE, WATCH, ELSE]


def configuration_of(member: Member) -> dict[str, Any]:
    return configuration(member, [other for other in ALL if other is not member])


@pytest.mark.parametrize(
    ("member", "mode", "listen", "connect"),
    [
        (
            SERVER,
            "peer",
            ["tls/10.0.0.7:7447", "tls/[fd00::7]:7447", "tls/10.0.0.7:0", "tls/[fd00::7]:0"],
            ["tls/server.example:7447", "tls/10.0.0.1:7448"],  # itself: another of its processes may have the port
        ),
        (PEER, "peer", ["tls/peer.example:0"], ["tls/server.example:7447", "tls/10.0.0.1:7448"]),
        (CLIENT, "client", [], ["tls/server.example:7447", "tls/10.0.0.1:7448"]),
        (GATE, "router", ["tls/10.0.0.1:7448"], ["tls/server.example:7447"]),
        (ELSE, "peer", ["tls/10.0.0.5:7447", "tls/10.0.0.5:0"], ["tls/10.0.0.5:7447"]),
    ],
    ids=lambda value: value.name if isinstance(value, Member) else "",
)
def test_where_a_member_listens_and_connects(member: Member, mode: str, listen: list[str], connect: list[str]) -> None:
    config = configuration_of(member)
    assert config["mode"] == mode
    assert config["listen"]["endpoints"] == listen
    assert config["connect"]["endpoints"] == connect
    assert config["transport"]["link"]["protocols"] == ["tls"]
    assert config["scouting"]["multicast"]["enabled"] is False


def test_who_shares_no_realm_is_not_in_the_access_control() -> None:
    control = configuration_of(SERVER)["access_control"]
    assert control["enabled"] is True
    assert control["default_permission"] == "deny"
    assert [subject["cert_common_names"] for subject in control["subjects"]] == [
        ["client"],
        ["gate"],
        ["peer"],
        ["server"],
        ["watch"],
    ]
    rules = {subject: policy["rules"] for policy in control["policies"] for subject in policy["subjects"]}
    assert rules["client"] == rules["gate"] == rules["peer"] == ["lab: everything"]
    assert rules["server"] == ["lab: everything", "private: everything"]
    (everything,) = (rule for rule in control["rules"] if rule["id"] == "lab: everything")
    assert everything["key_exprs"] == keys.everything("lab") == ["@object/lab/**", "@heros/lab/**"]
    assert everything["messages"] == list(MESSAGES)


def test_an_observer_sends_nothing_but_questions() -> None:
    control = access_control(SERVER, [WATCH])
    (policy,) = (policy for policy in control["policies"] if policy["subjects"] == ["watch"])
    rules = [rule for rule in control["rules"] if rule["id"] in policy["rules"]]
    sent = {message for rule in rules if "ingress" in rule["flows"] for message in rule["messages"]}
    assert sent == {"query", "declare_subscriber", "declare_liveliness_subscriber", "liveliness_query"}
    touched = {key for rule in rules if rule["messages"] != ["declare_queryable"] for key in rule["key_exprs"]}
    assert not any(key.endswith("/**") and "_discover" not in key for key in touched)
    for which in (packets.SERVER, packets.CLIENT, packets.REPLIES):
        inbox = zenoh.KeyExpr(keys.inbox("lab", "node", which, "from"))
        assert not any(zenoh.KeyExpr(key).intersects(inbox) for key in touched)


# -- the directory, by the command ----------------------------------------------------------------------------


def heros(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["secure", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A set-up with a member ``server`` at 127.0.0.1."""
    heros("init", tmp_path / "lab", "--realm", "lab", "--realm", "private", "--name", "server", "--host", "127.0.0.1")
    return tmp_path / "lab"


def test_init_writes_a_whole_set_up_that_others_cannot_read(directory: Path) -> None:
    assert {path.name for path in directory.iterdir()} == {"setup.json", "ca.pem", "ca-key.pem", "server"}
    assert {path.name for path in (directory / "server").iterdir()} == {"ca.pem", "cert.pem", "key.pem", "zenoh.json5"}
    if os.name == "posix":
        assert mode(directory) == mode(directory / "server") == 0o700
        assert mode(directory / "ca-key.pem") == mode(directory / "server/key.pem") == 0o600
    assert read_config(directory / "server/zenoh.json5")["listen"]["endpoints"][0] == "tls/127.0.0.1:7447"


def test_init_without_options_describes_this_computer(tmp_path: Path) -> None:
    output = heros("init", tmp_path / "lab").output
    (member,) = Setup(tmp_path / "lab").members.values()
    assert member.realms == ("heros",)
    assert member.port == 7447
    assert member.hosts
    assert f"HEROS_ZENOH_CONFIG={tmp_path / 'lab' / member.name / 'zenoh.json5'}" in output


def test_what_is_said_twice_counts_once(tmp_path: Path) -> None:
    heros("init", tmp_path / "lab", *(["--realm", "lab", "--host", "127.0.0.1"] * 2), "--days", "3650")
    (member,) = Setup(tmp_path / "lab").members.values()
    assert (member.realms, member.hosts) == (("lab",), ("127.0.0.1",))


def test_init_of_an_authority_only(tmp_path: Path) -> None:
    heros("init", tmp_path / "lab", "--authority-only")
    assert Setup(tmp_path / "lab").members == {}
    assert "(authority)" in heros("show", "-d", tmp_path / "lab").output


def test_init_never_overwrites(directory: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert "holds a set-up already" in heros("init", directory, code=1).output
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("precious")
    assert "not empty" in heros("init", tmp_path / "full", code=1).output
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    assert "Error" in heros("init", tmp_path / "full/thesis.tex", code=1).output


def test_add_writes_the_configurations_of_all(directory: Path) -> None:
    result = heros("add", "camera", "--host", "camera.example", "--host", "10.0.0.8", "-d", directory)
    assert "server/zenoh.json5" in result.output
    for name in ("server", "camera"):
        subjects = read_config(directory / name / "zenoh.json5")["access_control"]["subjects"]
        assert [subject["id"] for subject in subjects] == ["camera", "server"]
    assert read_config(directory / "camera/zenoh.json5")["connect"]["endpoints"] == ["tls/127.0.0.1:7447"]
    heros("add", "gate", "--role", "router", "--host", "10.0.0.1", "-d", directory)
    assert read_config(directory / "gate/zenoh.json5")["mode"] == "router"
    assert "tls/10.0.0.1:7447" in read_config(directory / "camera/zenoh.json5")["connect"]["endpoints"]


def test_the_files_can_lie_elsewhere(directory: Path) -> None:
    output = heros("add", "camera", "--path", "/etc/heros", "-d", directory).output
    assert "HEROS_ZENOH_CONFIG=/etc/heros/zenoh.json5" in output
    heros("add", "other", "-d", directory)
    tls = read_config(directory / "camera/zenoh.json5")["transport"]["link"]["tls"]
    assert tls["connect_private_key"] == "/etc/heros/key.pem"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["add", "server"], "exists already"),
        (["add", "ca.pem"], "cannot name a member"),
        (["add", "x", "--realm", "unknown"], "no realm unknown"),
        (["add", "x", "--port", "1"], "Say its host"),
        (["add", "x", "--role", "router"], "Say its host"),
        (["add", "x", "--host", "a b"], "neither a DNS name"),
        (["add", "x", "--days", "9999"], "outlive the authority"),
        (["remove", "x"], "no member x"),
        (["renew", "x"], "no member x"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_changes_nothing(directory: Path, arguments: list[str], reason: str) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert reason in heros(*arguments, "-d", directory, code=1).output
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_errors_of_usage(directory: Path) -> None:
    for arguments in (
        ["renew"],
        ["renew", "--all", "server"],
        ["renew", "--all", "--host", "a"],
        ["add", "x", "--role", "king"],
        ["add", "x", "--days", "0"],
        ["add"],
    ):
        heros(*arguments, "-d", directory, code=2)
    for arguments in ([], ["x", "--authority-only", "--host", "a"], ["x", "--days", "20", "--authority-days", "10"]):
        heros("init", *arguments, code=2)


def test_a_set_up_that_is_not_there_or_broken(directory: Path, tmp_path: Path) -> None:
    assert "no set-up" in heros("show", "-d", tmp_path, code=1).output
    for text in ("", "[]", "{}", '{"format": 2}', '{"format": 1, "realms": 3}'):
        (directory / "setup.json").write_text(text)
        assert "cannot be understood" in heros("show", "-d", directory, code=1).output


def test_show_tells_what_expires_and_what_is_wrong(directory: Path) -> None:
    heros("add", "short", "--days", "3.5", "-d", directory)
    lines = {line.split()[0]: line for line in heros("show", "-d", directory).output.splitlines()}
    assert "in 3 days" in lines["short"]
    assert "127.0.0.1 port 7447" in lines["server"]
    heros("show", "--within", "3", "-d", directory)
    heros("show", "--within", "4", "-d", directory, code=1)
    (directory / "short/cert.pem").unlink()
    assert "cannot be read" in heros("show", "-d", directory).output
    heros("show", "--within", "0", "-d", directory, code=1)


def test_renew_makes_a_new_key_and_changes_nothing_else(directory: Path) -> None:
    heros("add", "camera", "--host", "10.0.0.8", "--days", "2", "-d", directory)
    files = {name: (directory / "camera" / name).read_bytes() for name in ("cert.pem", "key.pem", "zenoh.json5")}
    heros("renew", "camera", "-d", directory)
    assert (directory / "camera/cert.pem").read_bytes() != files["cert.pem"]
    assert (directory / "camera/key.pem").read_bytes() != files["key.pem"]
    assert (directory / "camera/zenoh.json5").read_bytes() == files["zenoh.json5"]
    heros("show", "--within", "300", "-d", directory)
    heros("renew", "camera", "--host", "10.0.0.9", "-d", directory)
    assert read_config(directory / "camera/zenoh.json5")["listen"]["endpoints"] == ["tls/10.0.0.9:0"]
    heros("renew", "--all", "-d", directory)


def test_a_removed_name_is_not_given_again_while_its_certificates_are_valid(directory: Path) -> None:
    heros("add", "camera", "--days", "2", "-d", directory)
    heros("renew", "camera", "--days", "1e-9", "-d", directory)  # the one before is valid for longer
    heros("remove", "camera", "-d", directory)
    assert not (directory / "camera").exists()
    subjects = read_config(directory / "server/zenoh.json5")["access_control"]["subjects"]
    assert [subject["id"] for subject in subjects] == ["server"]
    assert "Choose another name" in heros("add", "camera", "-d", directory, code=1).output
    heros("add", "brief", "--days", "1e-9", "-d", directory)
    heros("remove", "brief", "-d", directory)
    heros("add", "brief", "-d", directory)


WITHOUT = """
import sys
sys.modules["cryptography"] = None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] == "cryptography" else real(name, *rest)
from heros.cli.main import main
main(sys.argv[1:])
"""


def test_without_cryptography_there_is_help_and_an_error_that_says_what_to_install(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WITHOUT, *arguments], capture_output=True, text=True, cwd=tmp_path)

    for arguments in (["--help"], ["secure", "--help"], ["secure", "init", "--help"]):
        assert run(*arguments).returncode == 0
    refused = run("secure", "init", "lab")
    assert refused.returncode == 1
    assert 'pip install "heros[secure]"' in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(tmp_path.iterdir()) == []
