"""The verdicts on the targets: met, or missed by how much. Nothing is measured here."""

from __future__ import annotations

import pytest

from benchmarks.peers.cases import Case
from benchmarks.peers.results import Figure, Results
from benchmarks.targets import report, table
from benchmarks.targets.bench import Bench, LeftOut, NotMeasured, Target
from benchmarks.targets.row import Finding, Quantity, Row, at_least, at_most, plain, ratio, speedup


@pytest.mark.parametrize(
    ("limit", "value", "verdict"),
    [
        (at_most(1.2), 1.2, "met"),
        (at_most(1.2), 0.1, "met"),
        (at_most(1.2), 1.5, "missed by 25%"),
        (at_most(1.2), 1.201, "missed by less than 1%"),
        (at_most(1.2), 2.4, "missed by a factor of 2"),
        (at_most(1.2), 60.0, "missed by a factor of 50"),
        (at_least(40.0), 40.0, "met"),
        (at_least(40.0), 41.0, "met"),
        (at_least(40.0), 30.0, "missed by 25%"),
        (at_least(40.0), 39.9, "missed by less than 1%"),
        (at_least(40.0), 20.0, "missed by a factor of 2"),
        (at_least(40.0), 0.0, "missed by 100%"),
        (at_most(0, ""), 0, "met"),
        (at_most(0, ""), -1, "met"),
        (at_most(0, ""), 3, "missed by 3"),
        (at_most(10e-3, "s"), 15e-3, "missed by 50%"),
    ],
)
def test_verdict(limit, value, verdict):
    assert limit.verdict(value) == verdict


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_no_measurement(value):
    with pytest.raises(ValueError, match="no measurement"):
        at_most(1.0).verdict(value)


def test_goal():
    assert at_most(1.0).goal_verdict(0.5) == ""
    assert at_most(1.0, goal=0.7).goal_verdict(0.7) == "0.7x: met"
    assert at_most(1.0, goal=0.5).goal_verdict(0.6) == "0.5x: missed by 20%"
    assert at_least(200e3, "1/s", goal=300e3).goal_verdict(240e3) == "300 k/s: missed by 20%"


def test_bounds_in_words():
    assert str(at_most(1.2)) == "at most 1.2x"
    assert str(at_least(200e3, "1/s")) == "at least 200 k/s"
    assert str(at_most(20 * 1024, "B")) == "at most 20 KiB"


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Quantity(1.25e-5, "s"), "12.5 us"),
        (Quantity(3.2e-10, "s"), "0.32 ns"),
        (Quantity(0.0, "s"), "0 s"),
        (Quantity(-2e-6, "s"), "-2 us"),
        (Quantity(1536, "B"), "1.5 KiB"),
        (Quantity(6.7e9, "B/s"), "6.7 GB/s"),
        (Quantity(1234.5, "x"), "1,234x"),
        (Quantity(7, ""), "7"),
    ],
)
def test_quantity(quantity, text):
    assert str(quantity) == text


def test_ratios_point_the_right_way():
    assert ratio(3.0, 2.0, "memcpy").value == Quantity(1.5, "x")
    assert speedup(2.0, 80.0, "the original").value == Quantity(40.0, "x")
    assert plain(5e-3, "s").value == Quantity(5e-3, "s")


def test_a_row_that_fails_is_told_and_the_others_go_on():
    def fails(bench: Bench) -> Finding:
        raise NotMeasured("the server: ended with exit code -9\nTraceback")

    def breaks(bench: Bench) -> Finding:
        raise KeyError("p50")

    def no_number(bench: Bench) -> Finding:
        return plain(float("nan"), "s")

    finds = (fails, breaks, no_number, lambda bench: plain(1.0, "x"))
    targets = [Target(f"1.{number}", "it", at_most(2.0), find) for number, find in enumerate(finds)]
    rows = report.find_rows(targets, Results(1, True), quick=True)
    assert [row.failed for row in rows] == [True, True, True, False]
    assert rows[0].verdict == "not measured: the server: ended with exit code -9"
    assert rows[1].verdict == "not measured: KeyError: 'p50'"
    assert rows[3].verdict == "met"
    assert table.summary(rows) == "4 rows: 1 met, 0 missed, 3 not measured"
    assert "\n| 1.0 | it |" in table.markdown(rows, "Rows.")
    assert "Traceback" in rows[0].as_json()["error"]


def test_what_was_not_asked_for_is_left_out_and_no_failure():
    call, results = Case("call"), Results(1, False)
    results.missing["zenoh"] = {call.key: "not offered"}
    results.failures["pyro"] = "pyro: did not start"
    results.figures["floor"] = {call.key: Figure(1, [1e-6], p50=1e-6, p99=1e-6)}
    bench = Bench(results, quick=False)
    assert bench.p50("floor", call) == 1e-6
    with pytest.raises(LeftOut):
        bench.figure("rpyc", call)
    for peer in ("zenoh", "pyro"):
        with pytest.raises(NotMeasured) as raised:
            bench.figure(peer, call)
        assert not isinstance(raised.value, LeftOut)
    left_out = [
        row for row in report.find_rows(report.selected(["1", "2", "3"]), Results(1, True), True) if row.left_out
    ]
    assert len(left_out) == len(report.selected(["1", "2", "3"]))


def test_one_measurement_for_several_rows_is_made_once():
    made = []

    def measure(bench: Bench) -> int:
        made.append(1)
        raise NotMeasured("no")

    bench = Bench(Results(1, True), quick=True)
    for _ in range(2):
        with pytest.raises(NotMeasured):
            bench.once(measure)
    assert len(made) == 1


def test_selection():
    numbers = [target.number for target in report.TARGETS]
    assert len(set(numbers)) == len(numbers)
    assert {number.split(".")[0] for number in numbers} == set("123456789")
    assert report.selected([]) == list(report.TARGETS)
    assert [target.number for target in report.selected(["5"])] == ["5.1", "5.2"]
    assert [target.number for target in report.selected(["5.2", "9.1"])] == ["5.2", "9.1"]
    with pytest.raises(ValueError, match="no target 10"):
        report.selected(["10"])
    row = Row("5.2", "it", at_most(1.2))
    assert row.command == "python -m benchmarks.targets --only 5.2"


def test_only_what_is_needed_is_measured_of_the_peers():
    assert report.needed(report.selected(["5", "6", "7", "9"])) == {}
    assert report.needed(report.selected(["1.3"])) == {"heros-shm": [Case("call")], "original": [Case("call")]}
