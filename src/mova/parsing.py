"""JSON and YAML from outside: what is nested too deeply, expands, or repeats a name is refused, never followed."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import yaml

MAX_DEPTH = 32
"""Levels of lists and mappings within each other; documents of the project have less than ten."""
MAX_DIGITS = 40
"""Of a whole number: those of 64 bits have at most 20 characters, and some libraries write 10**30 for no limit."""


def parse_json(text: str | bytes) -> Any:
    """Values of a JSON document.

    Raises:
        ValueError: If it is not JSON, is nested deeper than ``MAX_DEPTH``, or holds NaN, an infinity or an endless number;
            the message is the reason.
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(decoded, parse_int=_short_integer, parse_float=_finite_number, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth(value)
    return value


def parse_yaml(text: str) -> Any:
    """Values of a YAML document of plain values: no aliases, no repeated names.

    Raises:
        ValueError: If it is not YAML, is nested deeper than ``MAX_DEPTH``, or uses an alias or a name twice; the message is
            the reason, with the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = "" if mark is None else f"line {mark.line + 1}: "
        raise ValueError(f"{where}{problem or 'it cannot be parsed'}") from None
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError) as error:  # of its number and date types
        raise ValueError(f"a value cannot be read: {str(error)[:100]}") from None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent if isinstance(parent, list) else ())
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _short_integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no finite number")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses aliases, which can expand to more than fits into memory, deep nesting, and duplicate keys."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(str(node.value)) > MAX_DIGITS:
            raise yaml.MarkedYAMLError(problem=f"a number has {len(node.value)} digits", problem_mark=node.start_mark)
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a field name must be a scalar", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value[:40]!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
