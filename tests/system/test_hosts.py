"""Several computers, whose cables are pulled and whose programs are restarted while others call and listen.

The computers are network namespaces (``hosts``). What the programs of a desk see of a station (``hosts_peer``) is the
same in all tests: every call ends with a result or an error of ours; every sample arrives at most once and in order;
and what did not arrive is what ``missed`` says and what the station did publish.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heros.demo.loopback import free_port, zenoh_config
from tests.harness import Child
from tests.system.hosts import PORT, Host, Lan, connecting, listening
from tests.system.hosts_peer import published
from tests.system.hosts_scene import PATIENCE, PEER, Scene

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan() as lan:
        yield lan


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# -- who is there, and how it is reached ----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["multicast", "gossip", "router", "clients of a router"])
def test_three_hosts_meet(lan: Lan, scene: Scene, way: str) -> None:
    """Without a configuration; by the gossip of one of them; through a router, which is a computer of its own."""
    hosts = [lan.host(name) for name in ("alpha", "beta", "gamma")]
    if way == "multicast":
        configurations: list[dict[str, str | None]] = [{}, {}, {}]
    elif way == "gossip":
        configurations = [listening(), *(connecting(hosts[0]) for _ in "23")]
    else:
        centre = lan.host("centre")
        centre.start(PEER, "router", PORT).ready(PATIENCE)
        configurations = [connecting(centre, "peer" if way == "router" else "client") for _ in "123"]
    for host, name, env in zip(hosts, ("one", "two", "three"), configurations, strict=True):
        scene.station(host.start, name, 1, env)
    scene.sit_down(hosts[2].start, "one", "two", "three", env=configurations[2])
    for name, transport in (("one", "net"), ("two", "net"), ("three", "shm")):
        scene.wait_for_run(name, 1)
        assert scene.status(name)["transport"] == transport


def test_a_poor_cable(lan: Lan, scene: Scene) -> None:
    """Of a hundred frames five are lost and each takes 20 ms, by netem or by a process between two TAP devices."""
    alpha, beta = lan.host("alpha"), lan.host("beta", loss=0.05, delay=0.02)
    station = scene.station(alpha.start, "one", 1)
    scene.sit_down(beta.start, "one")
    scene.wait_for_run("one", 1)
    station.say("quiet")  # what it says at its end may be lost with it, on such a cable
    station.expect("QUIET")
    scene.check_gaps("one")
    station.end()
    assert scene.check("one")["transport"] == "net"


# -- a cable that is pulled -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("whose", "cut"),
    [("station", Host.unplug), ("desk", Host.unplug), ("station", Host.isolate)],
    ids=["station's cable", "desk's cable", "between switches"],
)
def test_a_link_is_cut_for_ten_seconds(lan: Lan, scene: Scene, whose: str, cut: Callable[[Host], None]) -> None:
    """Nobody is declared lost: calls wait, or time out, and go on; what did not fit is missed and counted."""
    hosts = {"station": lan.host("alpha"), "desk": lan.host("beta")}
    station = scene.station(hosts["station"].start, "one", 1)
    scene.sit_down(hosts["desk"].start, "one")
    scene.wait_for_run("one", 1)
    cut(hosts[whose])
    time.sleep(10.0)  # this is what is tested
    hosts[whose].plug()
    back = published(scene.folder, "one", 1)
    scene.wait("one", lambda now: all(now[who]["runs"]["1"][1] > back for who in ("direct", "observed")), "the samples")
    scene.wait_for_run("one", 1)
    *waiting, hasty = scene.status("one")["callers"]
    assert [caller["ends"].keys() for caller in waiting] == [{"result"}] * 3
    assert hasty["ends"].keys() == {"result", "CallTimeout"}
    station.end()
    assert scene.check("one")["direct"]["missed"] > 0


LEASE = {"transport": {"link": {"tx": {"lease": 3000}}}}
"""Three seconds instead of a minute, so that a test need not cut the link for longer."""


def test_a_link_is_cut_for_longer_than_the_lease(lan: Lan, scene: Scene, tmp_path: Path) -> None:
    """Both sides give each other up, and find each other again. A third one notices nothing of it."""
    alpha, beta, gamma = lan.host("alpha"), lan.host("beta"), lan.host("gamma")
    station = scene.station(alpha.start, "one", 1, listening(**LEASE))
    others = Scene(tmp_path, scene.realm)
    for desk, host in ((scene, beta), (others, gamma)):
        desk.sit_down(host.start, "one", env=connecting(alpha, **LEASE))
        desk.wait_for_run("one", 1)
    beta.unplug()
    scene.wait("one", lambda now: not now["known"] and "PeerLost" in now["callers"][0]["ends"], "it is given up")
    beta.plug()
    scene.wait("one", lambda now: now["known"], "it is known again")
    scene.wait_for_run("one", 1)
    undisturbed = others.status("one")
    assert all(undisturbed[who]["missed"] == 0 for who in ("direct", "observed"))
    assert all(caller["ends"].keys() <= {"result", "CallTimeout"} for caller in undisturbed["callers"])
    others.orderly = scene.orderly
    station.end()
    assert scene.check("one")["direct"]["missed"] > 0
    others.check("one")


def test_a_host_vanishes_and_returns_elsewhere(lan: Lan, scene: Scene) -> None:
    """It loses its power, so that nobody is told, and comes back with another address."""
    alpha, beta = lan.host("alpha"), lan.host("beta")
    station = scene.station(alpha.start, "one", 1, connecting(beta, **LEASE))
    scene.sit_down(beta.start, "one", env=listening(**LEASE))
    scene.wait_for_run("one", 1)
    alpha.unplug()
    station.kill9()
    scene.orderly["one", 1] = False
    alpha.move("10.77.0.99")
    alpha.plug()
    station = scene.station(alpha.start, "one", 2, connecting(beta, **LEASE))
    scene.wait_for_run("one", 2)
    station.end()
    scene.check("one")


# -- a server that is restarted -------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["shm", "net"])
def test_a_server_is_restarted_twenty_times(scene: Scene, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By turns killed and ended."""
    monkeypatch.setenv("HEROS_TRANSPORT", transport)
    here = there = {}
    if transport == "net":
        monkeypatch.delenv("HEROS_NET")
        port = free_port()
        here, there = ({"HEROS_ZENOH_CONFIG": zenoh_config(port, listen)} for listen in (True, False))
    os.makedirs(os.environ["HEROS_RUNTIME_DIR"], exist_ok=True)
    children: list[Child] = []

    def start(*arguments: Any, env: Any) -> Child:
        children.append(Child(*arguments, env=env))
        return children[-1]

    try:
        station = scene.station(start, "one", 1, there)
        scene.sit_down(start, "one", env=here)
        for run in range(1, 22):
            if run > 1:
                station = scene.station(start, "one", run, there)
            scene.wait_for_run("one", run)
            if run % 2:
                station.end()
            else:
                scene.orderly["one", run] = False
                station.kill9()
        status = scene.check("one")
        assert status["transport"] == transport
        assert len(status["direct"]["runs"]) == len(status["observed"]["runs"]) == 21
    finally:
        for child in children:
            child.close()
