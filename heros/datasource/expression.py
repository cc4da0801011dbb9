"""Conversion expressions: arithmetic in ``x`` from a configuration file, evaluated without ``eval``.

The text is parsed into Python's syntax tree; the tree is checked node by node against what is listed below and turned
into a tree of closures, once. What is not listed is refused then, so that evaluating cannot reach anything but the
numpy functions named here. All numbers are float64: ``9**9**9`` is ``inf``, not an integer that fills the memory, and
a division by zero is ``inf`` or ``nan``, not an exception.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from heros.limits import CONVERSION_CHARACTERS, CONVERSION_NODES

__all__ = ["Expression"]

_Value: TypeAlias = Any
"""A numpy float64, or an array of them."""

_Evaluator: TypeAlias = Callable[[_Value], _Value]

_FUNCTIONS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    # Of Python's own, those that conversions for the original HEROS use, which evaluated any Python:
    "abs": ((1,), np.abs),
    "max": ((2,), np.maximum),
    "min": ((2,), np.minimum),
    "pow": ((2,), np.power),
    "round": ((1, 2), lambda x, digits=0: np.round(x, int(digits))),
    **{
        name: ((1,), getattr(np, name))
        for name in (
            *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh"),
            *("exp", "exp2", "log", "log10", "log2", "log1p", "i0", "sinc", "sqrt"),
        )
    },
    **{name: ((2,), getattr(np, name)) for name in ("hypot", "arctan2", "logaddexp", "logaddexp2", "power")},
}
"""Name to numbers of arguments and function."""

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}

_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

_ALLOWED = (
    "Allowed are numbers, x, + - * / // % **, brackets, comparisons, 'a if condition else b', and the functions "
    + ", ".join(sorted(_FUNCTIONS))
)

_FOREIGN = re.compile(r"[^A-Za-z0-9_.+\-*/%()<>=!, ]")
"""A character that no allowed expression has. Quotes, colons and square brackets are refused before the parser."""


class Expression:
    """A function of ``x``, given as text. Immutable, thread-safe.

    Args:
        text: for instance ``"2.5 * x + 1"`` or ``"log10(x / 4.2)"``.

    Raises:
        ValueError: the text is no such expression; the message says what is wrong and what is allowed.
        TypeError: it is no text.
    """

    __slots__ = ("_evaluate", "text")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a conversion must be a str, not {type(text).__name__}")
        self.text = " ".join(text.split())
        self._evaluate = _compile(_parse(self.text), self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @overload
    def __call__(self, x: float) -> float: ...
    @overload
    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.float64]: ...
    def __call__(self, x: float | NDArray[np.generic]) -> float | NDArray[np.float64]:
        """The value at ``x``: a float for a number, a float64 array of the same shape for an array of numbers."""
        argument = np.asarray(x, dtype=np.float64)
        with np.errstate(all="ignore"):
            result = self._evaluate(argument[()])  # [()] makes a scalar of an array without dimensions
        if argument.ndim == 0:
            return float(result)
        return np.array(np.broadcast_to(result, argument.shape), dtype=np.float64)


def _parse(text: str) -> ast.expr:
    if len(text) > CONVERSION_CHARACTERS:
        raise ValueError(
            f"a conversion of {len(text)} characters is longer than {CONVERSION_CHARACTERS}: {text[:40]!r}..."
        )
    foreign = _FOREIGN.search(text)
    if foreign is not None:
        raise _refused(text, f"the character {foreign[0]!r}", "Write a power as x**2." if foreign[0] == "^" else "")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"the conversion {text!r} cannot be read: {error}. {_ALLOWED}.") from None
    nodes = sum(1 for node in ast.walk(tree) if isinstance(node, ast.expr))
    if nodes > CONVERSION_NODES:
        raise ValueError(f"the conversion {text!r} has {nodes} terms and operators, more than {CONVERSION_NODES}")
    return tree


def _compile(node: ast.expr, text: str) -> _Evaluator:
    """Turn one node and those below it into a closure. At most ``CONVERSION_NODES`` deep."""
    match node:
        case ast.Name(id="x"):
            return lambda x: x
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _constant(value, text)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _SIGNS:
            return _unary(_SIGNS[type(op)], _compile(operand, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _binary(_OPERATORS[type(op)], _compile(left, text), _compile(right, text))
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
            terms = [_compile(term, text) for term in (left, *others)]
            return _comparison([_COMPARISONS[type(op)] for op in ops], terms)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _choice(_compile(test, text), _compile(body, text), _compile(orelse, text))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            counts, function = _FUNCTIONS[name]
            if len(args) not in counts:
                takes = " or ".join(map(str, counts))
                raise ValueError(f"in the conversion {text!r}, {name} has {len(args)} arguments; it takes {takes}")
            arguments = [_compile(argument, text) for argument in args]
            return _unary(function, *arguments) if len(arguments) == 1 else _binary(function, *arguments)
        case _:
            raise _refused(text, repr(ast.unparse(node)))


def _refused(text: str, what: str, hint: str = "") -> ValueError:
    return ValueError(f"the conversion {text!r} contains {what}, which is not allowed. {hint or _ALLOWED}")


def _constant(value: float, text: str) -> _Evaluator:
    try:
        number = np.float64(value)
    except OverflowError:
        raise ValueError(f"the conversion {text!r} contains a number that is too large") from None
    return lambda x: number


def _unary(function: Callable[[Any], Any], operand: _Evaluator) -> _Evaluator:
    return lambda x: function(operand(x))


def _binary(function: Callable[[Any, Any], Any], left: _Evaluator, right: _Evaluator) -> _Evaluator:
    return lambda x: function(left(x), right(x))


def _comparison(comparisons: list[Callable[[Any, Any], Any]], terms: list[_Evaluator]) -> _Evaluator:
    """``a < b < c``: 1.0 where all hold, else 0.0."""

    def compare(x: _Value) -> _Value:
        values = [term(x) for term in terms]
        held = [holds(*pair) for holds, pair in zip(comparisons, pairwise(values), strict=True)]
        return np.float64(1.0) * np.logical_and.reduce(held)

    return compare


def _choice(test: _Evaluator, body: _Evaluator, orelse: _Evaluator) -> _Evaluator:
    def choose(x: _Value) -> _Value:
        chosen: Any = np.where(np.not_equal(test(x), 0.0), body(x), orelse(x))
        return chosen[()]

    return choose
