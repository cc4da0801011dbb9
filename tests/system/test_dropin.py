"""Programs that build on heros, as they are published: BOSS, herostools and herosdevices with this package.

They run in ``.venv-dropin``, in processes of their own. What is shown in ``docs/migrating.md`` is tested here.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import threading
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heros
from heros import DatasourceObserver, EventObserver, HEROObserver, LocalDatasourceHERO, RemoteHERO
from heros.demo.loopback import free_port, zenoh_config
from tests.harness import DROPIN, ORIGINAL, ROOT, Child, wait_until

pytestmark = pytest.mark.skipif(not DROPIN.exists(), reason="`make test` makes .venv-dropin, with BOSS and others")

COMMAND = DROPIN.parent / "boss"
START = 60.0
"""Seconds for a BOSS and its HEROs to start: each is a process that imports a driver, on a loaded machine."""


def configuration(name: str, classname: str, arguments: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A HERO, as BOSS reads it from JSON."""
    return {"_id": name, "classname": classname, "arguments": dict(arguments or {}), **more}


def polled(**observables: Mapping[str, Any]) -> dict[str, Any]:
    return {"async": False, "interval": 0.05, "observables": observables}


@contextmanager
def boss(
    directory: Path,
    *heros: Mapping[str, Any],
    realm: str = "heros",
    expose: str = "",
    env: Mapping[str, str | None] | None = None,
) -> Iterator[Child]:
    """The command ``boss``, with HEROs from a file. At the end it gets SIGTERM, and so do its HEROs."""
    file = directory / "heros.json"
    file.write_text(json.dumps({"rows": [{"doc": hero} for hero in heros]}))
    arguments = ["--url", file.as_uri(), "--realm", realm, *(["--expose", "--name", expose] if expose else [])]
    with Child(COMMAND, *arguments, interpreter=DROPIN, env={"PYTHONWARNINGS": "ignore", **(env or {})}) as child:
        try:
            yield child
        finally:
            end(child)


def end(child: Child) -> None:
    """End a BOSS as Ctrl-C in a terminal does: it and its HEROs' processes get the signal."""
    tasks = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    children = [int(pid) for pid in tasks.read_text().split()] if tasks.exists() else []
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    for pid in children:  # before BOSS: it waits five seconds for each that still runs
        wait_until(lambda pid=pid: not running(pid), what=lambda: child.output)
    if child.alive:
        child.signal(signal.SIGTERM)
    child.wait()


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


def proxy(name: str, realm: str = "heros") -> RemoteHERO:
    return RemoteHERO(name, realm, wait=START)


# -- importing ------------------------------------------------------------------------------------------------

IMPORT_ALL = """
import importlib, json, logging, pkgutil, sys, warnings
warnings.simplefilter("ignore")
logging.disable()
outcome = {}
for root in ("boss", "herostools", "herosdevices"):
    package = importlib.import_module(root)
    for module in pkgutil.walk_packages(package.__path__, root + ".", onerror=lambda name: None):
        try:
            importlib.import_module(module.name)
            outcome[module.name] = "imports"
        except Exception as error:
            outcome[module.name] = f"{type(error).__name__}: {error}"
import heros
print("OUTCOME", json.dumps({"version": heros.__version__, "modules": outcome}), flush=True)
"""


def import_all(interpreter: Path, paths: str | None = None) -> dict[str, Any]:
    with Child(IMPORT_ALL, interpreter=interpreter, env={"PYTHONPATH": paths}) as child:
        return json.loads(child.expect("OUTCOME", START))  # type: ignore[no-any-return]


@pytest.mark.skipif(not ORIGINAL.exists(), reason="`make test` makes .venv-original")
def test_whatever_imports_with_the_original_imports_here():
    (packages,) = DROPIN.parent.parent.glob("lib/python*/site-packages")
    theirs = import_all(ORIGINAL, str(packages))
    ours = import_all(DROPIN)
    assert theirs["version"] == "2026.2.2"
    assert ours["version"] == heros.__version__
    assert len(ours["modules"]) > 100
    assert ours["modules"] == theirs["modules"]


def test_pip_is_content_with_the_version():
    """boss wants heros>=0.9, herostools >=0.10."""
    done = subprocess.run([DROPIN, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# -- BOSS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["shm", "net"])
def test_boss_offers_objects_as_heros(transport, tmp_path, monkeypatch):
    realm, env = "heros", {}
    if transport == "net":
        realm, port = f"test-{uuid.uuid4().hex[:12]}", free_port()
        monkeypatch.delenv("HEROS_NET")
        monkeypatch.setenv("HEROS_TRANSPORT", "net")
        monkeypatch.setenv("HEROS_ZENOH_CONFIG", zenoh_config(port, listen=True))
        env = {"HEROS_ZENOH_CONFIG": zenoh_config(port, listen=False)}
    temperature = {"0": {"conversion": "x / 2 + 1", "unit": "K", "raw_unit": "V", "boundaries": [[0, 1], [1, 4]]}}
    heros_of_boss = [
        configuration("counter", "boss.dummies.Dummy", tags=["mine"]),
        configuration("dependent", "boss.dummies.DependentDummy", {"parent_hero": "$counter"}),
        configuration("sensor", "boss.dummies.PolledDatasourceDummy", datasource=polled(**temperature)),
    ]
    with boss(tmp_path, *heros_of_boss, realm=realm, env=env):
        counter = proxy("counter", realm)
        assert heros.transport_of(counter) == transport
        assert counter.hello() == "world"
        assert counter.testme == 1
        counter.testme = 5
        assert counter.testme == 5
        assert not hasattr(counter, "_secret_hello")
        assert {"mine", "_proto_version:1.0"} < counter._hero_tags
        assert any(tag.startswith("BOSS: ") for tag in counter._hero_tags)
        versions = json.loads(counter._hero_extra_metadata["pkg_versions"])
        assert (versions["heros"], versions["boss"]) == (heros.__version__, "2026.0.4")
        with pytest.raises(AttributeError, match="foovar"):
            counter.read_temp(1, 2)

        proxy("dependent", realm).update_parent_testme(7)
        assert counter.testme == 7

        sensor = proxy("sensor", realm)
        sensor.testme = 4
        values: list[tuple[str, Any]] = []
        observer = DatasourceObserver("*", realm=realm)
        observer.register_callback(lambda name, data: values.append((name, data)))
        wait_until(lambda: any(data[0].raw_value == 4 for _, data in values), what=lambda: repr(values))
        name, (value,) = next(each for each in values if each[1][0].raw_value == 4)
        assert name == "sensor"
        assert (value.id, value.value, value.unit, value.raw_unit, value.inbound) == ("0", 3.0, "K", "V", 1)
        observer._destroy_hero()


def test_boss_as_a_hero(tmp_path):
    """``boss --expose``: status, stop, start, restart, add and reload from another process."""
    first = configuration("first", "boss.dummies.Dummy")
    with boss(tmp_path, first, expose="the-boss") as process:
        remote = proxy("the-boss")
        counter = proxy("first")
        counter.hello()

        def status(name: str) -> str:
            return str(remote.status().get(name, {}).get("status"))

        wait_until(lambda: status("first") == "running", what=lambda: repr(remote.status()))
        described = remote.status()["first"]
        assert described["object"] is None
        assert described["config"]["classname"] == "boss.dummies.Dummy"
        ((_, url),) = remote.hero_config_sources
        assert url.endswith("heros.json")

        observer = HEROObserver()
        remote.stop_hero("first")
        wait_until(lambda: "first" not in observer.known_objects, START, lambda: process.output)
        wait_until(lambda: status("first") == "stopped", START)
        remote.start_hero("first")
        wait_until(lambda: "first" in observer.known_objects, START)
        wait_until(lambda: counter.testme == 0)  # the same proxy, the new instance

        remote.add_hero(configuration("second", "boss.dummies.PolledDatasourceDummy", datasource=polled()))
        wait_until(lambda: "second" in observer.known_objects, START)
        proxy("second").testme = 2

        third = configuration("third", "boss.dummies.Dummy")
        (tmp_path / "heros.json").write_text(json.dumps({"rows": [{"doc": each} for each in (first, third)]}))
        remote.refresh_hero_sources()  # stops what is not in the file, starts what is new
        wait_until(lambda: {"the-boss", "first", "third"} == set(observer.known_objects), START)
        observer._destroy_hero()


def test_boss_from_the_environment(tmp_path):
    """The JSON text in a variable, an asynchronous datasource, and the level of the log."""
    document = json.dumps(configuration("alone", "boss.dummies.Dummy", datasource={"async": True, "observables": {}}))
    with Child(COMMAND, "--log", "debug", interpreter=DROPIN, env={"BOSS": document}) as process:
        alone = proxy("alone")
        got: list[Any] = []
        alone.observable_data.connect(got.append)
        alone.observable_data(3)  # calls the callbacks here: an event is published by its owner
        assert got == [3]
        assert alone.hello() == "world"
        assert "DEBUG" in process.errors
        end(process)
        assert process.wait() == 0


def test_a_polled_datasource_ends_while_it_publishes(tmp_path):
    """BOSS ends a HERO in a signal handler, in whatever its main thread is doing; it must not wait for itself."""
    fast = {"async": False, "interval": 0.0005, "observables": {}}
    names = [f"fast-{number}" for number in range(3)]
    sources = [configuration(name, "boss.dummies.PolledDatasourceDummy", datasource=fast) for name in names]
    with boss(tmp_path, *sources):
        seen: set[str] = set()
        observer = DatasourceObserver("*")
        observer.register_callback(lambda name, data: seen.add(name))
        wait_until(lambda: seen == set(names), START)


def test_the_boss_on_the_page(tmp_path, capsys):
    """The JSON and the program of docs/migrating.md, with another directory, port and interval."""
    page = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    (document,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    program = next(each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "the-boss" in each)
    port, store = free_port(), tmp_path / "images"
    for old, new in (("/data/images", str(store)), ("9090", f"{port}"), ('"interval": 5', '"interval": 0.05')):
        assert old in document
        document = document.replace(old, new)
    rows = json.loads(document)["rows"]
    with boss(tmp_path, *rows, expose="the-boss") as process:
        for name in (*(row["_id"] for row in rows), "the-boss"):
            proxy(name)
        wait_until(lambda: "adc_voltage_value" in scrape(port), START, lambda: process.output)

        exec(program, {})
        shown = ""

        def done() -> bool:
            nonlocal shown
            shown += capsys.readouterr().out
            proxy("camera").arm()  # again, if the archiver was not there yet
            return (store / "frame-2" / "zarr.json").exists() and "(600, 800)" in shown

        wait_until(done, START, lambda: process.output)
        assert "running" in shown


def scrape(port: int) -> str:
    """What the exporter tells, as far as it runs."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            return str(reply.read().decode())
    except OSError:
        return ""


# -- herosdevices ---------------------------------------------------------------------------------------------

CAMERA = configuration(
    "camera",
    "herosdevices.hardware.dummy.cameras.CameraDummy",
    {"config_dict": {"default": {"frame_count": 3, "width": 64, "height": 48, "exposure_time": 0.01}}},
    extra_decorators=[["acquisition_data", "heros.event.reliable"]],
)


def test_a_driver_of_herosdevices(tmp_path):
    with boss(tmp_path, CAMERA):
        camera = proxy("camera")
        assert camera._hero_implements == {
            "atomiq.components.optoelectronics.camera.Camera",
            "herosdevices.interfaces.ConfiguredDevice",
        }
        assert camera.get_status() == {"acquisition_running": False, "foo": "bar"}
        assert camera.get_configuration()["frame_count"] == 3
        camera.update_configuration({"default": {"frame_count": 5}})
        assert camera.configure(metadata={"run": 7}) is True
        assert camera.exposure_time == 0.01
        camera.exposure_time = 0.02
        assert camera.get_configuration()["exposure_time"] == 0.02
        assert camera.roi_coordinates == [0, 0, 64, 48]  # a tuple there
        with pytest.raises(KeyError):
            camera.configure("no such configuration")
        camera.configure()

        frames: list[Any] = []
        camera.acquisition_data.connect(frames.append)
        stopped: list[Any] = []
        camera.acquisition_stopped.connect(stopped.append)
        assert camera.arm() is True
        wait_until(lambda: stopped and len(frames) == 5, START)
        assert stopped == [{"frames": 5, "frame_count": 5}]
        assert [metadata["frame"] for _, metadata in frames] == list(range(5))
        assert {metadata["run"] for _, metadata in frames} == {7}
        for image, _ in frames:
            assert image.shape == (48, 64)
            assert image.dtype == np.uint16
        assert camera.acquisition_data.missed == 0


def test_interfaces_and_a_polled_driver_of_herosdevices(tmp_path):
    """An interface offers private methods by force_remote; a driver's method is polled as an observable."""
    electronics = "herosdevices.hardware.dummy.electronics"
    observables = {"voltage": {"target": "measure", "raw_unit": "V", "conversion": "1000 * x", "unit": "mV"}}
    source = configuration("source", f"{electronics}.VoltageSourceDummy")
    adc = configuration("adc", f"{electronics}.ADCChannelDummy", datasource=polled(**observables))
    with boss(tmp_path, source, adc):
        voltage = proxy("source")
        assert voltage._set_voltage(1.5) is None
        assert "atomiq.components.electronics.voltagesource.VoltageSource" in voltage._hero_implements
        assert proxy("adc").measure(2, channel="a") == 3.14
        got: list[Any] = []
        observer = EventObserver("adc", "observable_data")
        observer.register_callback(lambda name, data: got.append(data))
        wait_until(lambda: got)
        assert got[0][0]["id"] == "voltage"
        assert (got[0][0]["raw_value"], got[0][0]["raw_unit"]) == (3.14, "V")
        assert (got[0][0]["value"], got[0][0]["unit"]) == (3140.0, "mV")
        observer._destroy_hero()


# -- herostools -----------------------------------------------------------------------------------------------


def test_archivers_of_herostools(tmp_path):
    """Images of a driver and the data of one of our datasources, on disk; the archivers are HEROs of a BOSS."""
    to_zarr = {
        "object_selector": "camera",
        "event_name": "acquisition_data",
        "store_template": str(tmp_path / "store"),
        "array_path_template": "frame-{{ frame }}",
        "default_metadata": {"lab": "here"},
    }
    to_npy = {
        "object_selector": "cam*",
        "event_name": "acquisition_data",
        "save_template": str(tmp_path / "npy" / "{{ frame }}.npy"),
    }
    to_json = {
        "object_selector": "*",
        "event_name": "finished",
        "save_template": str(tmp_path / "json" / "{{ number }}.json"),
    }
    tools = "herostools.actor.archiver"
    archivers = [
        configuration("to-zarr", f"{tools}.ZarrArchiver", to_zarr),
        configuration("to-npy", f"{tools}.ArrayArchiver", to_npy),
        configuration("to-json", f"{tools}.JsonArchiver", to_json),
    ]

    class Source(LocalDatasourceHERO):
        @heros.event
        def finished(self, number: int) -> dict[str, Any]:
            return {"number": number, "values": [1.5, 2.5]}

    with boss(tmp_path, CAMERA, *archivers) as process, Source("source") as source:
        for archiver in archivers:
            assert proxy(archiver["_id"]).is_queue_drained() is True
        camera = proxy("camera")
        images = [tmp_path / "npy" / f"{number}.npy" for number in range(3)]
        images += [tmp_path / "store" / f"frame-{number}" / "zarr.json" for number in range(3)]

        def archived() -> bool:
            camera.arm()  # again, if an archiver has not found it yet
            return all(image.exists() for image in images)

        wait_until(archived, START, lambda: process.output)

        written = tmp_path / "json" / "4.json"
        wait_until(lambda: source.finished.publisher.wanted, START)
        source.finished(4)
        wait_until(lambda: written.exists() and written.read_text().endswith("}"), START, lambda: process.output)
        assert json.loads(written.read_text()) == {"number": 4, "values": [1.5, 2.5]}
    read = (
        "import sys, zarr; group = zarr.open_group(sys.argv[1]); "
        "print('SHAPES', *sorted((key, group[key].shape) for key in group.array_keys()), flush=True)"
    )
    for number in range(3):
        image = np.load(tmp_path / "npy" / f"{number}.npy")
        assert image.shape == (48, 64)
        assert image.dtype == np.uint16
    with Child(read, tmp_path / "store", interpreter=DROPIN) as child:
        shapes = child.expect("SHAPES", START)
    assert shapes == " ".join(f"('frame-{number}', (48, 64))" for number in range(3))


class Pushgateway(http.server.BaseHTTPRequestHandler):
    """What Prometheus offers for data that is pushed."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.pushed.append((self.path, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


PUSHER = """
import sys, threading
from herostools.actor.prometheus import PrometheusActor
actor = PrometheusActor(metrics_path=sys.argv[1], labels={"job": "Lab 1"})
print("READY", flush=True)
pause = threading.Event()
while True:
    actor.push()
    pause.wait(0.05)
"""


class Weather(LocalDatasourceHERO):
    _observables = {  # noqa: RUF012  # as in a user's class
        "temperature": {"conversion": "x * 100", "unit": "°C", "boundaries": [[0, 30], [30, 60]]}
    }


def test_prometheus_exporter_of_herostools(tmp_path):
    """Its endpoint is scraped, and has what our datasources have published."""
    port = free_port()
    exporter = configuration(
        "exporter",
        "herostools.actor.HERODatasourceStateMachine",
        {"loop": "@_boss_loop", "http_port": port, "bind_address": "127.0.0.1", "labels": {"lab": "one"}},
    )
    sensor = configuration("sensor", "boss.dummies.PolledDatasourceDummy", datasource=polled())

    with boss(tmp_path, exporter, sensor) as process, Weather("weather") as weather:
        remote = proxy("exporter")

        def exported() -> str:
            weather.observable_data({"temperature": (0.42, "V"), "wind": (7.5, "m/s")})
            text = scrape(port)
            return text if "weather" in text and "sensor" in text else ""

        text = wait_until(exported, START, lambda: process.output)
        samples = dict(line.rsplit(" ", 2)[:2] for line in text.splitlines() if line)
        labels = 'lab="one",prefix="weather",key="{}"'
        temperature, wind = labels.format("temperature"), labels.format("wind")
        assert samples[f"weather_temperature_inbound{{{temperature}}}"] == "1"
        assert samples[f'weather_temperature_value{{{temperature},unit="°C"}}'] == "42.0"
        assert samples[f'weather_temperature_raw_value{{{temperature},unit="V"}}'] == "0.42"
        assert samples[f"weather_wind_inbound{{{wind}}}"] == "-1"
        assert samples[f'weather_wind_value{{{wind},unit="m/s"}}'] == "7.5"
        assert samples['sensor_0_value{lab="one",prefix="sensor",key="0"}'] == "0.0"
        (stored,) = [each for each in remote.get_cache()["weather"] if each["id"] == "wind"]
        assert stored["raw_value"] == 7.5
        remote.clear()


def test_prometheus_pusher_of_herostools():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pushgateway) as server:
        server.pushed = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        with Weather("weather") as weather, Child(PUSHER, address, interpreter=DROPIN) as child:
            child.ready(START)

            def pushed() -> tuple[str, str] | None:
                weather.observable_data({"temperature": (0.42, "V")})
                return next(iter(server.pushed), None)  # type: ignore[attr-defined]

            path, body = wait_until(pushed, START, lambda: child.output)
            assert path == "/metrics/job/lab_1"
            lines = dict(line.rsplit(" ", 1) for line in body.splitlines())
            assert lines['temperature_value{unit="°C"}'] == "42.0"
            assert lines['temperature_raw_value{unit="V"}'] == "0.42"
            assert lines["temperature_inbound"] == "1"
        server.shutdown()
