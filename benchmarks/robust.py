"""Counts how many damaged and hostile inputs are read or refused in two lines: tried and held, by kind.

    python benchmarks/robust.py --tries 60

Each try damages a good input at random, from a seed, and gives it to the product in a process of its own. It is held if it
is read, or refused by a :class:`~mova.errors.MovaError`. Any other exception, the end of the process by a signal, more CPU
time than ``--seconds`` and more memory than ``--gigabytes`` are not. The first try of each kind is not damaged, and must be
read.

- **media**: video, audio and pictures of eight types, cut, overwritten, with bytes changed, lost or added, or renamed; read,
  and checked by the health gate.
- **checkpoints**: mova-base with a value of a configuration replaced or a file cut, changed, replaced by a pipe, a device or
  a folder; loaded.
- **adapters**: LoRAs of mova-base with tensors renamed, reshaped, not finite or lost, with other metadata, or with bytes
  changed; attached. After each of them the networks must be what they were, bit for bit.
- **requests**: what a file says of how it was made, with values replaced, lost or added; read as a replay reads it.
- **kills**: ``mova generate`` killed at a random moment over a file that exists. The file must be the old or a whole new
  one, and the next run must leave nothing else in the folder.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from mova.checkpoints.layout import resolve_model
from mova.checkpoints.load import load_checkpoint
from mova.checkpoints.lora.adapters import load_lora, unload_lora
from mova.cli.recorded import model_of_video
from mova.conditioning.recorded import read_record
from mova.errors import MovaError
from mova.files import atomic_write
from mova.media.clip import Clip
from mova.media.decode import read_clip
from mova.media.health.files import check_file
from mova.media.image import read_image
from mova.media.probe import probe
from mova.models.joint import JointModel
from mova.request.schema import GenerationRequest
from mova.scenes.world import render, sample_scripts

ROOT = Path(__file__).parents[1]
SEED = 770_000
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 10**30, -0.5, 1e300, "", "x", "\u202e", "\x1b[2J", "x" * 5000, "a\0b", "/dev/zero", "../..", [],
    {}, [[]], [0] * 5000, {"a": {"b": []}}, ["x", 1], "\ud800",
)  # fmt: skip
Damage = Callable[[Path, random.Random | None], str]
"""Makes one input in a folder, damaged if there are random numbers, and returns its name, and how; ``Use`` reads it."""
Use = Callable[[Path], None]


def main() -> None:
    """Try, print, write; exit code 1 if anything was not held."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        document = measure(Path(folder), arguments)
    console = Console()
    console.print(table_of(document))
    for failure in document["failures"]:
        console.print(f"  {failure}", markup=False)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(arguments.output) as beside:
        beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if document["failures"] else 0)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=60, help="damaged inputs of each kind; a tenth as many kills")
    parser.add_argument("--seconds", type=int, default=60, help="most CPU time of a try")
    parser.add_argument("--gigabytes", type=int, default=3, help="most memory of a try")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "robust.json")
    return parser.parse_args()


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Try everything; the document is ready for JSON."""
    clip = render(next(iter(sample_scripts(arguments.seed, 1)))).clip()
    components = load_checkpoint("mova-base")
    experts = [components.transformer]
    kinds: dict[str, tuple[Damage, Use]] = {
        "media": (damage_media(folder / "media", clip), use_media),
        "checkpoints": (damage_checkpoint, lambda path: void(load_checkpoint(path))),
        "adapters": (damage_adapter(components.transformer), lambda path: attach(experts, path)),
        "requests": (damage_request(folder / "requests", clip), use_request),
    }
    rows, failures = {}, []
    for kind, (damage, use) in kinds.items():
        results: Counter[str] = Counter()
        for index in range(arguments.tries):
            place = folder / f"{kind}{index}"
            place.mkdir()
            name = damage(place, random.Random(f"{arguments.seed} {kind} {index}") if index else None)
            result = try_in_child(use, place / name.split(": ")[0], seconds=arguments.seconds, gigabytes=arguments.gigabytes)
            is_held = result in (("read", "refused") if index else ("read",))
            results[result if is_held else "not held"] += 1
            if not is_held:
                failures.append(f"{kind} {index} ({name}): {result}")
            shutil.rmtree(place)
        rows[kind] = row_of(results)
    results, found = kill_runs(folder, max(1, arguments.tries // 10), random.Random(arguments.seed))
    rows["kills"] = row_of(results)
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": arguments.seed,
        "rows": rows,
        "failures": [*failures, *found],
    }


def row_of(results: Counter[str]) -> dict[str, int]:
    """Return the counts of a kind."""
    tried = results.total()
    return {"tried": tried, "held": tried - results["not held"], "read": results["read"], "refused": results["refused"]}


def table_of(document: dict[str, Any]) -> Table:
    """Lay out a row for each kind."""
    table = Table(title="Damaged and hostile inputs")
    for column in ("kind", "tried", "held", "read", "refused"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind, row in document["rows"].items():
        table.add_row(kind, *(str(row[name]) for name in ("tried", "held", "read", "refused")))
    return table


def try_in_child(use: Use, path: Path, *, seconds: int, gigabytes: int) -> str:
    """Give a file to the product in a process of its own: "read", "refused", or what went wrong."""
    inward, outward = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inward)
        limit_process(seconds, gigabytes)
        os.write(outward, outcome_of(use, path).encode("utf-8", "replace"))
        os._exit(0)
    os.close(outward)
    deadline = time.monotonic() + 10 * seconds  # a process that waits uses no CPU time; ten, because others may run beside
    done, status = 0, 0
    while not done and time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
    if not done:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "waits without end"
    with os.fdopen(inward, "rb") as stream:
        if os.WIFSIGNALED(status):
            return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return stream.read().decode()


def limit_process(seconds: int, gigabytes: int) -> None:
    """Bound what this process may use, and silence it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (round(used.ru_utime) + seconds, resource.RLIM_INFINITY))
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + gigabytes * 2**30, resource.RLIM_INFINITY))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def outcome_of(use: Use, path: Path) -> str:
    """Whether the product reads or refuses a file."""
    try:
        use(path)
    except MovaError as error:
        return "refused" if error.message else "refused without a word"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "read"


def damage_media(good: Path, clip: Clip) -> Damage:
    """Prepare good files of every type; the result damages one of them."""
    good.mkdir()
    for name in ("a.mp4", "a.mkv", "a.webm", "a.mov", "a.wav", "a.gif"):
        clip.save(good / name)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(clip.frames[0]).save(good / name)
    names = sorted(path.name for path in good.iterdir())

    def damage(place: Path, rng: random.Random | None) -> str:
        if rng is None:
            shutil.copy(good / names[0], place)
            return names[0]
        source = good / rng.choice(names)
        data, how = damage_bytes(source.read_bytes(), rng)
        renamed = rng.random() < 0.1
        name = f"b{rng.choice(names)[1:]}" if renamed else source.name
        (place / name).write_bytes(data)
        return f"{name}: {how}{f', in truth {source.suffix}' if renamed else ''}"

    return damage


def damage_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return damaged bytes, and how."""
    how = rng.choice(("cut", "zeros", "changed", "lost", "added", "header"))
    at, size = rng.randrange(len(data)), rng.choice((1, 16, 400, 4000))
    junk = rng.randbytes(size)
    if how == "cut":
        return data[:at], how
    if how == "lost":
        return data[:at] + data[at + size :], how
    if how == "added":
        return data[:at] + junk + data[at:], how
    if how == "zeros":
        return data[:at] + bytes(len(data[at : at + size])) + data[at + size :], how
    if how == "header":
        at = rng.randrange(min(400, len(data)))
    changed = bytearray(data)
    for offset in (at, *(rng.randrange(len(data) if how == "changed" else min(400, len(data))) for _ in range(size % 50))):
        changed[offset] = rng.randrange(256)
    return bytes(changed), how


def use_media(path: Path) -> None:
    """Read and check a file."""
    if path.suffix in (".png", ".jpg"):
        read_image(path)
        return
    check_file(path)
    if path.suffix not in (".wav", ".gif"):  # these have no video, or no audio
        read_clip(path)


def damage_checkpoint(place: Path, rng: random.Random | None) -> str:
    """Copy the shipped model and damage one of its files."""
    folder = place / "model"
    shutil.copytree(resolve_model("mova-base"), folder)
    (folder / "checksums.json").unlink()
    if rng is None:
        return "model"
    documents = sorted(folder.rglob("*.json"))
    how = rng.choice(("value", "value", "value", "bytes", "pipe", "device", "folder", "missing"))
    files = documents if how == "value" else [*documents, *sorted(folder.rglob("*.safetensors"))]
    file = rng.choice(files)
    if how == "value":
        document = json.loads(file.read_text(encoding="utf-8"))
        how = f"value {change_value(document, rng)}"
        file.write_text(json.dumps(document), encoding="utf-8")
    elif how == "bytes":
        data, how = damage_bytes(file.read_bytes(), rng)
        file.write_bytes(data)
    else:
        file.unlink()
        if how == "pipe":
            os.mkfifo(file)
        elif how == "device":
            file.symlink_to("/dev/zero")
        elif how == "folder":
            file.mkdir()
    return f"model: {file.relative_to(folder)}, {how}"


def change_value(document: Any, rng: random.Random) -> str:
    """Replace, drop or add one value anywhere in a document; returns where and what."""
    places = places_in(document)
    container, key = rng.choice(places)
    if rng.random() < 0.2:
        del container[key]
        return f"{key!r} lost"
    value = copy.deepcopy(rng.choice(VALUES))
    if isinstance(container, dict) and rng.random() < 0.2:
        key = f"{key}_"
    container[key] = value
    return f"{key!r} = {str(value)[:40]!r}"


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key within; long lists by their first items."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))[:9] if isinstance(value, list) else []
    return [(value, key) for key, _ in items] + [place for _, item in items for place in places_in(item)]


def damage_adapter(model: JointModel) -> Damage:
    """Return what writes a damaged LoRA for a network."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}

    def damage(place: Path, rng: random.Random | None) -> str:
        tensors = {}
        for name in sorted(layers)[:6] if rng is None else rng.sample(sorted(layers), 6):
            out, into = layers[name].weight.shape
            tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(4, into)
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(out, 4)
        path = place / "lora.safetensors"
        if rng is None:
            save_file(tensors, path)
            return path.name
        key = rng.choice(sorted(tensors))
        how = rng.choice(("renamed", "reshaped", "not finite", "lost", "metadata", "bytes", "whole numbers", "flat"))
        metadata = {"format": "pt"}
        if how == "renamed":
            tensors[rng.choice((f"{key}.x", key.replace("lora_A", "lora_C"), "x" * 3000, "\x1b[2J", "a.lora_A.weight"))] = (
                tensors.pop(key)
            )
        elif how == "reshaped":
            tensors[key] = torch.zeros(rng.choice(((0, 4), (4,), (4, 4, 4), (10**4, 3), ())))
        elif how == "not finite":
            tensors[key] = tensors[key] * rng.choice((float("nan"), float("inf")))
        elif how == "lost":
            del tensors[key]
        elif how == "metadata":
            value = rng.choice(VALUES)
            setting = rng.choice(("lora_adapter_metadata", "lora_alpha", "ss_network_alpha", "rank_pattern", "use_dora"))
            metadata[setting] = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
        elif how == "whole numbers":
            tensors[key] = torch.ones(tensors[key].shape, dtype=torch.int32)
        elif how == "flat":
            tensors = {name.replace(".", "_", name.count(".") - 2): value for name, value in tensors.items()}
        save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
        if how == "bytes":
            data, how = damage_bytes(path.read_bytes(), rng)
            path.write_bytes(data)
        return f"lora.safetensors: {how}"

    return damage


def attach(experts: list[JointModel], path: Path) -> None:
    """Attach a LoRA and take it off again, whatever comes of it.

    Raises:
        AssertionError: If the network is not what it was.
    """
    before = {name: value.clone() for name, value in experts[0].state_dict().items()}
    try:
        load_lora(experts, path)
    finally:
        unload_lora(experts)
        after = experts[0].state_dict()
        assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)


def damage_request(good: Path, clip: Clip) -> Damage:
    """Return what writes an audio file with a damaged record of how it was made."""
    good.mkdir()
    request = {
        "prompt": "a red ball bounces twice", "seed": 1, "num_frames": 33, "fps": 16.0, "solver": "adams",
        "cues": [{"time_s": 0.5, "label": "red"}], "keyframes": [{"time_s": 1.0, "image": "b.png"}],
        "retake": {"modality": "video", "from_s": 0.5, "to_s": 1.0}, "video": "c.mp4",
        "made_by": {"mova": "0.1.0", "model": "mova-base", "weights": "18af", "inputs": {"a.png": "00"},
                    "loras": [{"name": "style", "scale": 0.5, "file": "style.safetensors", "hash": "00"}]},
    }  # fmt: skip
    replace(clip, only="audio", request=request).save(good / "a.wav")

    def damage(place: Path, rng: random.Random | None) -> str:
        document = copy.deepcopy(request)
        how = "" if rng is None else change_value(document, rng)
        text = json.dumps(document)
        replace(clip, only="audio", request={"prompt": "x"}).save(place / "a.wav")
        rewrite_comment(place / "a.wav", text)
        return f"a.wav: {how}"

    return damage


def rewrite_comment(path: Path, text: str) -> None:
    """Replace the request in a WAV file, as someone else's program may have written it."""
    data = path.read_bytes()
    start = data.index(b"ICMT")
    size = int.from_bytes(data[start + 4 : start + 8], "little")
    value = text.encode("utf-8", "surrogatepass") + b"\0"
    value += b"\0" * (len(value) % 2)
    end = start + 8 + size + size % 2
    changed = data[: start + 4] + len(value).to_bytes(4, "little") + value + data[end:]
    outer = changed.index(b"LIST")
    grown = len(changed) - len(data)
    inner = int.from_bytes(changed[outer + 4 : outer + 8], "little") + grown
    changed = changed[: outer + 4] + inner.to_bytes(4, "little") + changed[outer + 8 :]
    path.write_bytes(changed[:4] + (len(changed) - 8).to_bytes(4, "little") + changed[8:])


def use_request(path: Path) -> None:
    """Read what a file says of how it was made, as far as it goes without a model."""
    record = read_record(probe(path))
    if record is None or record.is_film:
        return
    GenerationRequest.model_validate(record.request)
    model_of_video(record.made_by)


def kill_runs(folder: Path, runs: int, rng: random.Random) -> tuple[Counter[str], list[str]]:
    """Kill runs at random moments; a whole run first says how long one takes, and another last must leave no trace."""
    place = folder / "kills"
    place.mkdir()
    command = [sys.executable, "-m", "mova.cli.app", "generate", "a red ball bounces", "--steps", "4", "-o", "a.mp4"]
    quiet = {"cwd": place, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = time.monotonic()
    subprocess.run([*command, "--seed", "1"], check=True, **quiet)  # type: ignore[call-overload]
    longest = time.monotonic() - start
    results: Counter[str] = Counter()
    failures = []
    for index in range(runs):
        process = subprocess.Popen([*command, "--seed", str(index + 2)], **quiet)  # type: ignore[call-overload]
        moment = rng.uniform(0.3 * longest, 1.05 * longest)
        time.sleep(moment)
        process.kill()
        process.wait()
        try:
            read_clip(place / "a.mp4")
            results["read"] += 1
        except MovaError as error:
            results["not held"] += 1
            failures.append(f"kills {index} (after {moment:.1f} s): {error.message}")
    subprocess.run([*command, "--seed", "1"], check=True, **quiet)  # type: ignore[call-overload]
    left = sorted(path.name for path in place.iterdir() if path.name != "a.mp4")
    if left:
        results["read"] -= 1
        results["not held"] += 1
        failures.append(f"kills: the next run left {', '.join(left)}")
    return results, failures


def void(_: object) -> None:
    """Drop a result."""


if __name__ == "__main__":
    main()
