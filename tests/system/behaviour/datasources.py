"""Values of datasources, without any network: from_data of every kind, conversions, boundaries."""

from __future__ import annotations

import itertools

import numpy as np
from saying import finish, outcome, say

from heros import DatasourceReturnSet, DatasourceReturnValue
from heros.datasource.observables import Observable, ObservableProcessor

FUNCTIONS = [
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "hypot", "arctan2", "sinh", "cosh", "tanh", "arcsinh"),
    *("arccosh", "exp", "exp2", "log", "log10", "log2", "log1p", "logaddexp", "logaddexp2", "i0", "sinc", "power"),
    "sqrt",
]
TWO = ("hypot", "arctan2", "logaddexp", "logaddexp2", "power")

DATA = {
    "float": 1.5,
    "int": 2,
    "bool": True,
    "None": None,
    "str": "text",
    "pair": (1.5, "V"),
    "pair of int": (3, "V"),
    "pair of two numbers": (1.5, 2.5),
    "triple": (1.0, 2.0, 3.0),
    "list": [1.5, 2.5],
    "list of ints": [1, 2, 3],
    "list of pairs": [(1.5, "V"), (2.5, "A")],
    "list of pairs of ints": [(1, "V"), (2, "A")],
    "list of lists": [[1.5, "V"]],
    "mixed list": [(1.5, "V"), 2.5],
    "empty list": [],
    "dict": {"a": 1.5, "b": 2},
    "dict of pairs": {"a": (1.5, "V"), "b": [2, "A"]},
    "mixed dict": {"a": (1.5, "V"), "b": 2.5},
    "dict of lists of two numbers": {"a": [1.0, 2.0]},
    "dict of triples": {"a": (1, 2, 3)},
    "empty dict": {},
    "bytes unit": (1.5, b"V"),
    "None unit": (1.5, None),
    "np.float64": np.float64(1.5),
    "array": np.array([1.0, 2.0]),
}


def entry(value) -> list:
    return [value.id, value.raw_value, value.raw_unit, value.value, value.unit, value.inbound]


for name, data in DATA.items():
    outcome(f"from_data {name}", lambda data=data: [entry(value) for value in DatasourceReturnSet.from_data(data)])
say(
    "type",
    [
        type(DatasourceReturnSet.from_data(1.0)).__mro__[1].__name__,
        type(DatasourceReturnSet.from_data(1.0)[0]).__mro__[1].__name__,
    ],
)

value = DatasourceReturnValue(id="a", raw_value=2.0, raw_unit="V", time=5.0)
say("value", dict(value))
say("value with all", dict(DatasourceReturnValue("i", 1.0, 2.0, "u", 3.0, "r", 4, True, extra=5)))
say("defaults", {key: each for key, each in DatasourceReturnValue().items() if key != "time"})
say("properties", [value.id, value.time, value.value, value.unit, value.raw_value, value.raw_unit, value.inbound])
value.value, value.unit = 9.0, "K"
say("set and not calibrated", [value.value, value.unit, value["value"], value["unit"]])
value["calibrated"] = True
say("calibrated", [value.value, value.unit])
value.raw_value, value.raw_unit, value.inbound = 1, "A", 2
say("raw and inbound set", [value.raw_value, value.raw_unit, value.inbound])


def converted(definition, data):
    (value,) = ObservableProcessor({"0": definition})(DatasourceReturnSet.from_data(data))
    return [float(value.value), value.unit, value.inbound, value["calibrated"]]


for function, x in itertools.product(FUNCTIONS, (0.25, 1.0, 3.0)):
    expression = f"{function}(x, 2)" if function in TWO else f"{function}(x)"
    outcome(f"{expression} at {x}", lambda e=expression, x=x: converted({"conversion": e}, x))
for expression in (
    "x",
    "2*x + 1",
    "-x",
    "+x",
    "x**2",
    "x // 2",
    "x % 2",
    "x / 0",
    "(x - 32) / 1.8",
    "1e-3 * x",
    "x > 1",
    "2 if x > 1 else 3",
    "log(x) / log(10)",
    "sin(cos(x)) * 2",
    "  x + 1  ",
    "1",
    "x*",
    "y",
    "__import__('os')",
    "abs(x)",
    "pi",
    "",
    "x; x",
    "lambda: 1",
):
    outcome(f"conversion {expression!r}", lambda e=expression: converted({"conversion": e, "unit": "K"}, 1.5))
for boundaries, x in itertools.product(
    ([[0, 1]], [[0, 1], [1, 2]], [[1, 0]], [], [[-1, 5], [0, 9]]), (-1, 0, 0.5, 1, 2, 7)
):
    outcome(f"boundaries {boundaries} at {x}", lambda b=boundaries, x=x: converted({"boundaries": b}, x))
outcome("boundaries of the converted", lambda: converted({"conversion": "10*x", "boundaries": [[9, 11]]}, 1))
outcome("unit without conversion", lambda: converted({"unit": "K"}, (1.5, "V")))
outcome("raw_unit of the definition", lambda: converted({"raw_unit": "V"}, 1.5))
outcome("no definition", lambda: converted({}, (1.5, "V")))
outcome("unit of the converted", lambda: converted({"conversion": "x"}, (1.5, "V")))
say("id of an observable", Observable("i", {}).id)
say("definition of an observable", Observable("i", {"unit": "K"}).definition)

finish()
