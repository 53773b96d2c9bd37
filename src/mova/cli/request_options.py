"""Options of a command made from the fields of a request: names, types, limits, units and defaults come from the schema."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

from mova.cli.options import flag, name_flags, parse_cues, parse_extend, parse_keyframes, parse_retake, parse_size
from mova.request.schema import GIVEN, SIZE, WHAT, GenerationRequest
from mova.request.solver_names import EVALUATIONS, KnownSolver

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Form:
    """How one or two fields are typed, where that is not their own name and type.

    Args:
        fields: Fields that the option sets.
        names: Names of the option; those after the first are taken too, and not listed in help.
        metavar: Form of the value, for help.
        help: What it is; the description of the first field if empty.
        parse: From what was typed to values of the fields.
        is_list: Whether the option may be repeated.
        group: Heading in help.
    """

    fields: tuple[str, ...]
    names: tuple[str, ...]
    metavar: str
    parse: Callable[[Any], Mapping[str, Any]]
    group: str
    help: str = ""
    is_list: bool = False


def _parse_size(text: str) -> Mapping[str, Any]:
    width, height = parse_size(text)
    return {"width": width, "height": height}


FORMS = (
    Form(("width", "height"), ("--size",), "WIDTHxHEIGHT", _parse_size, SIZE, "Width and height in pixels."),
    Form(
        ("cues",),
        ("--cue",),
        "SECONDS=LABEL",
        lambda texts: {"cues": parse_cues(texts)},
        WHAT,
        "What happens when: SECONDS or SECONDS=LABEL; repeatable. 'none' leaves it open; planned from the prompt if not given.",
        is_list=True,
    ),
    Form(
        ("keyframes",),
        ("--keyframe",),
        "SECONDS=FILE",
        lambda texts: {"keyframes": parse_keyframes(texts)},
        GIVEN,
        "Frame at a moment: an image file; repeatable.",
        is_list=True,
    ),
    Form(
        ("references",),
        ("--reference",),
        "FILE",
        lambda texts: {"references": texts},
        GIVEN,
        "Image of what is to be in the video, which goes on from it and does not show it; repeatable.",
        is_list=True,
    ),
    Form(
        ("extend_s", "extend_at"),
        ("--extend",),
        "SECONDSs",
        parse_extend,
        GIVEN,
        "Length to add to --video: 2s at its end, start:2s before it.",
    ),
    Form(
        ("retake",),
        ("--retake",),
        "MODALITY:FROM-TO",
        lambda text: {"retake": parse_retake(text)},
        GIVEN,
        "Span of --video to generate again: audio:0.8-1.6, video:..., both:...",
    ),
    Form(
        ("num_inference_steps",),
        ("--steps", "--num-inference-steps"),
        "N",
        lambda value: {"num_inference_steps": value},
        "Sampling",
    ),
)
_FORM_OF = {name: form for form in FORMS for name in form.fields}


def request_options(*names: str, without: tuple[str, ...] = ()) -> Callable[[_Command], Any]:
    """Give a command the options of a request; its first parameter receives the fields that were given.

    Args:
        names: Fields to offer; all if none is named.
        without: Fields to leave out.
    """
    fields = [name for name in (names or tuple(GenerationRequest.model_fields)) if name not in without]
    forms = list(dict.fromkeys(_FORM_OF.get(name, name) for name in fields))

    def decorate(command: _Command) -> Any:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def run(**given: Any) -> Any:
            values: dict[str, Any] = {}
            for form in forms:
                spellings = [given.pop(_parameter_name(name)) for name in _names(form)]
                typed = next((one for one in spellings if one is not None and one is not False and one != []), None)
                if typed is None:
                    continue
                values |= {form: typed} if isinstance(form, str) else form.parse(typed)
            return command({name: value for name, value in values.items() if value is not None}, **given)

        parameters = [_parameter(form, name) for form in forms for name in _names(form)]
        first = [one for one in parameters if one.name == "prompt"]
        rest = [one for one in parameters if one.name != "prompt"]
        run.__signature__ = inspect.Signature([*first, *own, *rest])  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in (*parameters, *own)}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def _names(form: Form | str) -> tuple[str, ...]:
    return (form,) if isinstance(form, str) else form.names


def _parameter_name(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def _parameter(form: Form | str, name: str) -> inspect.Parameter:
    field = GenerationRequest.model_fields[form if isinstance(form, str) else form.fields[0]]
    facts: Any = field.json_schema_extra
    if form == "prompt":
        hint: Any = Annotated[
            str | None,
            typer.Argument(
                help="What to see and hear. '-' reads standard input, '@file' a file with one prompt a line.", metavar="PROMPT"
            ),
        ]
        default: Any = None
    elif isinstance(form, Form):
        kind: Any = list[str] if form.is_list else int if form.metavar == "N" else str
        option = typer.Option(
            name,
            help=form.help or _help(form.fields[0]),
            metavar=form.metavar,
            rich_help_panel=form.group,
            hidden=name != form.names[0],
        )
        hint, default = Annotated[kind | None, option], None
    else:
        kind, metavar = _base_type(field.annotation)
        is_flag = kind is bool
        option = typer.Option(
            flag(form), help=_help(form), metavar=None if is_flag else metavar, rich_help_panel=facts["group"]
        )
        hint, default = (Annotated[bool, option], False) if is_flag else (Annotated[kind | None, option], None)
    return inspect.Parameter(_parameter_name(name), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _help(name: str) -> str:
    """Description, unit and default of a field, in the words of the command line."""
    field = GenerationRequest.model_fields[name]
    facts: Any = field.json_schema_extra
    unit = f" In {facts['unit']}." if "unit" in facts else ""
    default = field.get_default()
    shown = (
        ""
        if default in (None, "", (), False)
        else f" Default: {default:g}."
        if isinstance(default, float)
        else f" Default: {default}."
    )
    return name_flags(f"{field.description}{unit}{shown}")


def _base_type(annotation: Any) -> tuple[Any, str | None]:
    """The type that is typed, and its form for help."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    if annotation == KnownSolver:
        return str, "|".join(EVALUATIONS)
    if get_origin(annotation) is Literal:
        return str, "|".join(str(one) for one in get_args(annotation))
    return annotation, None
