"""What griffe does not read in our sources by itself: Sphinx roles, fields of pydantic, arguments of named tuples.

The Markdown pages (``make_reference.py``) and the site (``mkdocs.yml``) both read the sources through this extension.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod|obj):`(~?)([^`]+)`")
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


class Docstrings(griffe.Extension):
    """Write roles as code, give fields their descriptions and named tuples the arguments that they are made with."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Replace roles in the docstring of ``obj``: ``~`` in front leaves only the last part of a name."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(_code, obj.docstring.value)

    def on_attribute(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Take description, limits, unit and default of a field from its call of ``Field`` or of the schema's ``_field``."""
        if not isinstance(attr.value, griffe.ExprCall) or str(attr.value.function) not in ("Field", "_field"):
            return
        given = {one.name: str(one.value) for one in attr.value.arguments if isinstance(one, griffe.ExprKeyword)}
        first = [str(one) for one in attr.value.arguments if not isinstance(one, griffe.ExprKeyword)]
        given |= dict(zip(("default", "group", "description"), first, strict=False))
        attr.value = given.get("default")
        if "description" in given:
            limits = ", ".join(f"{words} {given[name]}" for name, words in _LIMITS.items() if name in given)
            text = ast.literal_eval(given["description"]) + (f" {limits[0].upper()}{limits[1:]}." if limits else "")
            text += f" In {ast.literal_eval(given['unit'])}." if "unit" in given else ""
            attr.docstring = griffe.Docstring(text, parent=attr)

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Add an ``__init__`` to a named tuple, made of its fields."""
        if not any(str(base).split(".")[-1] == "NamedTuple" for base in cls.bases):
            return
        fields = [one for one in cls.members.values() if isinstance(one, griffe.Attribute) and one.annotation is not None]
        kind = griffe.ParameterKind.positional_or_keyword
        parameters = [griffe.Parameter("self", kind=kind)]
        parameters += [griffe.Parameter(one.name, annotation=one.annotation, kind=kind, default=one.value) for one in fields]
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))


def _code(role: re.Match[str]) -> str:
    is_short, name = role.groups()
    return f"`{name.rsplit('.', 1)[-1] if is_short else name}`"
