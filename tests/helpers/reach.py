"""The names that a test uses: those in its code, in its fixtures, and in the functions of tests/ that these call."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

TESTS = str(Path(__file__).parents[1])


def names_used(item: pytest.Function) -> set[str]:
    """Names of the fixtures, globals, attributes and modules that the code of the test uses, of its fixtures, and of
    their helpers in tests/. What the lab uses, below them, is left out.
    """
    fixtures = [
        definition.func for definitions in item._fixtureinfo.name2fixturedefs.values() for definition in definitions
    ]
    names, left, seen = set(item.fixturenames), [item.function, *fixtures], set()
    while left:
        function = inspect.unwrap(left.pop())
        if isinstance(function, FunctionType) and function not in seen:
            seen.add(function)
            used, called = _of_function(function)
            names |= used
            left += called
    return names


@lru_cache(None)
def _of_function(function: FunctionType) -> tuple[frozenset[str], tuple[object, ...]]:
    """The names that it uses, and the functions of tests/ among them, methods of classes included."""
    names = frozenset(name for code in _codes(function.__code__) for name in code.co_names)
    scope = function.__globals__
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    values += [scope[name] for name in names if name in scope]
    modules = [value for value in values if isinstance(value, ModuleType) and _here(value.__name__)]
    values += [vars(module)[name] for module in modules for name in names if name in vars(module)]
    classes = [value for value in values if inspect.isclass(value) and _here(value.__module__)]
    values += [method for owner in classes for method in vars(owner).values()]
    return names, tuple(v for v in values if inspect.isroutine(v) and _here(getattr(v, "__module__", None)))


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code and that of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@lru_cache(None)
def _here(module: str | None) -> bool:
    """Whether the module of that name stands in tests/."""
    return (getattr(sys.modules.get(module or ""), "__file__", None) or "/").startswith(TESTS)
