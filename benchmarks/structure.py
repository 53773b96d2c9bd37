"""Counts what a reader of the source has to cross: functions and files entered by real runs, lines, layers, imports.

    python benchmarks/structure.py
    python benchmarks/structure.py --list prompt

Three commands are run with few steps through the entry point of the command line, each in a process of its own that
records every call: a prompt becomes an .mp4 ("prompt"), a silent video gets its audio ("video"), and the model is measured
with one clip a track ("eval"; one process makes the clips, so that all of its calls are seen). What is counted:

- A function is a ``def`` in a file of the package: methods, properties and nested functions are functions; lambdas,
  comprehensions and the bodies of modules and classes are not. It counts once, however often it is called, and it counts
  too if an import calls it. A file counts if one of its functions does, not if it is only imported.
- The call depth is the largest number of such functions on the stack at once.
- Lines are those of every .py file, as ``wc -l`` counts them.
- Contract rows are the layers of import-linter in ``pyproject.toml``; loose modules are .py files directly in the package.
- Arrows are pairs of top-level packages or modules of which one imports the other, wherever the import stands. A cycle is a
  largest group of modules each of which imports every other, directly or through others.

Calls depend a little on the clips (a warning of the health gate is a few more functions), so seeds and steps are fixed. The
package is the one that Python finds: to measure another checkout, put its ``src`` into PYTHONPATH.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import av
import grimp
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PACKAGE, ENTRY = "mova", "mova.cli.app"
PROMPT = "drum pads are hit: red, blue, red"
LAB = ("lab", "evaluation")  # its name now, and before
HEART = ("models", "sampling", "training", "pipeline", "generation", "model")
TRACES = ("prompt", "video", "eval")
INSIDE = "--inside"


@dataclass(frozen=True)
class Call:
    """The first call of a function."""

    file: str  # below the folder of the package
    line: int
    name: str
    depth: int  # functions of the package on the stack, this one included


@dataclass(frozen=True)
class Trace:
    """The functions that a run entered."""

    calls: tuple[Call, ...]  # in order of the first call
    depth: int  # the largest of any call, first or not

    @property
    def num_files(self) -> int:
        """Files with at least one of the functions."""
        return len({call.file for call in self.calls})


@dataclass(frozen=True)
class Row:
    """A row of the table: a count, or a share in percent, and its limit."""

    what: str
    value: float
    at_most: float | None = None
    unit: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the value is within its limit; None without a limit."""
        return None if self.at_most is None else self.value <= self.at_most

    def text(self, value: float | None) -> str:
        """A value in the row's unit."""
        return "-" if value is None else f"{value:,.1f}{self.unit}" if self.unit else f"{value:,.0f}"


class Recorder:
    """A trace function for :func:`sys.settrace` that keeps the first call of every function below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = f"{folder}{os.sep}"
        self.calls: dict[tuple[str, int, str], Call] = {}
        self.depth = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Note a call; nothing is returned, so that the lines inside are not traced."""
        if not self.is_function(frame):
            return
        depth, outer = 1, frame.f_back
        while outer is not None:
            depth, outer = depth + self.is_function(outer), outer.f_back
        code = frame.f_code
        call = Call(code.co_filename.removeprefix(self.folder), code.co_firstlineno, code.co_qualname, depth)
        self.calls.setdefault((call.file, call.line, call.name), call)
        self.depth = max(self.depth, depth)

    def is_function(self, frame: FrameType) -> bool:
        """Whether a frame is a function of the package: no module or class body, no lambda, no comprehension."""
        code = frame.f_code
        is_def = bool(code.co_flags & inspect.CO_OPTIMIZED) and not code.co_name.startswith("<")
        return is_def and code.co_filename.startswith(self.folder)


def main() -> None:
    """Run, count, print, write."""
    if sys.argv[1:2] == [INSIDE]:
        record(Path(sys.argv[2]), sys.argv[3:])
        return
    arguments = parse_arguments()
    if arguments.list is not None:
        needed = ("prompt", "video") if arguments.list == "video" else (arguments.list,)
        sys.stdout.write(listing(make_traces(needed)[arguments.list]))
        return
    traces, folder = make_traces(TRACES), package_folder()
    rows = [*trace_rows(traces), *line_rows(folder), *layer_rows(folder), *import_rows(PACKAGE)]
    earlier = [] if arguments.baseline is None else json.loads(arguments.baseline.read_text(encoding="utf-8"))["rows"]
    Console().print(table_of(rows, {row["what"]: row["value"] for row in earlier}))
    document = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "rows": [{**asdict(row), "is_met": row.is_met} for row in rows],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", choices=TRACES, metavar="TRACE", help=f"print the calls of one: {', '.join(TRACES)}")
    parser.add_argument("--baseline", type=Path, help="an earlier result, printed beside this one")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "structure.json")
    return parser.parse_args()


def package_folder() -> Path:
    """The folder of the package, which is not imported here."""
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def make_traces(names: tuple[str, ...]) -> dict[str, Trace]:
    """The traces of these names; "video" takes the picture that "prompt" has written before it."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video, silent = folder / "video.mp4", folder / "silent.mp4"
        generate = ["generate", PROMPT, "--steps", "4", "--seed", "7", "-o"]
        commands = {
            "prompt": [*generate, str(video)],
            "video": [*generate, str(folder / "dubbed.mp4"), "--video", str(silent)],
            "eval": ["eval", "model", "-n", "1", "--steps", "4", "--processes", "1", "-o", str(folder / "eval")],
        }
        for one in names:
            if one == "video":
                copy_without_audio(video, silent)
            found[one] = trace(commands[one])
    return found


def trace(command: list[str]) -> Trace:
    """Run a command line in a process of its own, with the model it takes by itself, and return what it called."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment.pop("MOVA_MODEL", None)
        inside = [sys.executable, __file__, INSIDE, str(file), *command]
        subprocess.run(inside, env=environment, check=True, stdout=subprocess.DEVNULL)
        written = json.loads(file.read_text(encoding="utf-8"))
    return Trace(tuple(Call(**call) for call in written["calls"]), written["depth"])


def record(file: Path, command: list[str]) -> None:
    """Run a command line in this process and write what it calls to ``file``; importing the package is part of it."""
    recorder = Recorder(package_folder())
    sys.argv = [PACKAGE, *command]
    threading.settrace(recorder)
    sys.settrace(recorder)
    try:
        import_module(ENTRY).main()
    finally:
        sys.settrace(None)
        calls = [asdict(call) for call in recorder.calls.values()]
        file.write_text(json.dumps({"calls": calls, "depth": recorder.depth}), encoding="utf-8")


def copy_without_audio(source: Path, target: Path) -> None:
    """Copy the picture of a video, packet by packet."""
    with av.open(source) as given, av.open(target, "w") as silent:
        stream = given.streams.video[0]
        copied = silent.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                silent.mux(packet)


def listing(traced: Trace) -> str:
    """The functions of a trace in order of their first call, indented by depth, each with its place."""
    places = [f"{call.file}:{call.line}" for call in traced.calls]
    width = max(map(len, places), default=0)
    lines = [f"{place:<{width}}  {' ' * (call.depth - 1)}{call.name}" for place, call in zip(places, traced.calls, strict=True)]
    total = f"{len(traced.calls)} functions in {traced.num_files} files, call depth {traced.depth}"
    return "\n".join([*lines, total]) + "\n"


def trace_rows(traces: dict[str, Trace]) -> list[Row]:
    """Files, functions and depths of the three runs."""
    prompt, video, model = (traces[name] for name in TRACES)
    return [
        Row("files, prompt -> .mp4", prompt.num_files, 45),
        Row("functions, prompt -> .mp4", len(prompt.calls), 300),
        Row("call depth, prompt -> .mp4", prompt.depth),
        Row("files, silent video -> its audio", video.num_files, 50),
        Row("functions, silent video -> its audio", len(video.calls)),
        Row("files, eval model", model.num_files, 60),
        Row("functions, eval model", len(model.calls)),
    ]


def line_rows(folder: Path) -> list[Row]:
    """Lines of the package, and the shares of the lab and of the heart (models, sampling, training, pipeline, generation)."""
    lines: Counter[str] = Counter()
    for file in folder.rglob("*.py"):
        lines[file.relative_to(folder).with_suffix("").parts[0]] += file.read_bytes().count(b"\n")
    total = lines.total()
    lab, heart = (100 * sum(lines[name] for name in names) / total for names in (LAB, HEART))
    return [
        Row(f"lines in src/{folder.name}", total, 35_000),
        Row("share of the lab", lab, 27, " %"),
        Row("share of the heart", heart, None, " %"),
    ]


def layer_rows(folder: Path) -> list[Row]:
    """Rows of the import contract, and modules that are in no subpackage."""
    project = tomllib.loads((folder.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    rows = [contract.get("layers", ()) for contract in project["tool"]["importlinter"]["contracts"]]
    loose = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    return [
        Row("rows of the import contract", sum(map(len, rows)), 9),
        Row("loose modules", len(loose), 8),
    ]


def import_rows(package: str) -> list[Row]:
    """Modules, arrows between what is at the top, and cycles of the import graph."""
    graph = grimp.build_graph(package, cache_dir=None)
    imports = [(one, other) for one in graph.modules for other in graph.find_modules_directly_imported_by(one)]
    tops = [tuple(name.split(".")[1] for name in pair) for pair in imports if package not in pair]
    upstream = {module: graph.find_upstream_modules(module) for module in graph.modules}
    groups = {frozenset({one, *(other for other in found if one in upstream[other])}) for one, found in upstream.items()}
    in_cycles = [len(group) for group in groups if len(group) > 1]
    return [
        Row("modules", len(graph.modules)),
        Row("arrows between top-level packages", len({pair for pair in tops if pair[0] != pair[1]})),
        Row("import cycles between modules", len(in_cycles)),
        Row("modules in cycles", sum(in_cycles)),
    ]


def table_of(rows: list[Row], before: dict[str, float]) -> Table:
    """What was counted beside its limit, and beside an earlier result (values by row) if there is one."""
    table = Table(title=f"structure of {PACKAGE}", title_justify="left")
    for head in ("what", *(["before"] if before else []), "now", "at most", "met"):
        table.add_column(head, justify="left" if head in ("what", "met") else "right")
    for row in rows:
        earlier = [row.text(before.get(row.what))] if before else []
        verdict = "" if row.is_met is None else "yes" if row.is_met else "no"
        table.add_row(row.what, *earlier, row.text(row.value), row.text(row.at_most), verdict)
    return table


if __name__ == "__main__":
    main()
