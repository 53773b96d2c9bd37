"""The vocabulary of the code and the docs: the field's words, verbs for functions, noun phrases for arguments.

A word that is banned here has a better one beside it. Add an exception only with its reason, in ``allowed``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "mova"


@dataclass(frozen=True)
class Word:
    """A word that is not used.

    Args:
        pattern: Regular expression, case sensitive.
        say: Word to use instead.
        allowed: Paths that may use it, relative to the repository, with the reason.
    """

    pattern: str
    say: str
    allowed: tuple[tuple[str, str], ...] = ()


SHOTS = (
    ("src/mova/cli/app.py", "the command ``mova film``"),
    ("src/mova/film/", "makes films from shot lists"),
    ("src/mova/cli/film.py", "the command of film/"),
    ("docs/shots.md", "describes shot lists"),
    ("CONTRIBUTING.md", "states this rule"),
)

WORDS = (
    # modalities
    Word(r"\b[Ff]ilms?\b(?!/)", "video; a film is what film/ makes from a shot list", SHOTS),
    Word(r"\b[Ss]ilent films?\b", "silent video"),
    Word(r"\b([Pp]ictures?|[Vv]ideos?) (and|or) (its |the |their )?sounds?\b", "video and audio"),
    Word(r"\b[Ss]ounds? (and|or) (its |the |their )?(pictures?|videos?)\b", "audio and video"),
    Word(r"\b[Pp]ictures? (and|or) (its |the |their )?audio\b", "video and audio; a picture is a still image"),
    Word(r"\b[Aa]udio (and|or) (its |the |their )?pictures?\b", "audio and video; a picture is a still image"),
    # the network
    Word(r"\b[Kk]eepers?\b", "text key/value cache"),
    Word(r"\b[Dd]oors?\b", "input channels, patch embedding; embeddings and head"),
    Word(r"\b[Tt]old\b(?! apart)|_told\b", "given, reported; text_embeds; sample_cue_mask"),
    Word(r"\baudio_heard\b|\bheard: Tensor\b", "audio_text_embeds"),
    Word(r"\balone_layers\b|\bdef alone\b", "perturbed_layers, identity_attention"),
    Word(r"\b_spread\b", "gather_modulation"),
    Word(r"\b_Ceiling\b", "the maximum timestep"),
    # solvers and guidance
    Word(r"\b(_moved|_bent|bow|_reach|LONGEST_REACH)\b", "euler_step, second_order_correction, step_ratio, MAX_STEP_RATIO"),
    Word(r"\b(FEW_TOKENS|branches_that_share)\b", "MAX_TOKENS_FOR_BATCHED_CFG, cfg_batch"),
    # conditioning
    Word(
        r"\b(given_all_but|given_outside|led_by|keep_given|held_film|given_whole|places_of|draw_told)\b",
        "temporal or spatial inpaint mask, prepend references, paste_back, fully_conditioned, keyframe_positions",
    ),
    # requests, runs, costs
    Word(
        r"\b([Ss]ettle[sd]?|[Ss]ettling)\b",
        "resolve",
        (
            ("src/mova/scenes/kinds/siren.py", "an oscillation settles"),
            ("docs/official.md", "the codec's receptive field settles"),
        ),
    ),
    Word(r"\b(ModelWorld|world_of|written_beside|in_typed_words)\b", "Capabilities, atomic_write, with_flag_names"),
    Word(r"\bclass (Skeleton|Elsewhere|Ear|Wish|Bill|Beside|Meeting|Look|Maker|Memory)\b", "the term of section Words"),
    Word(r"\b(asked_of|maker_of|loras_of)\b", "constraints_of, request_from_film"),
    Word(r"\b(_badness|_liveliest|liveliest)\b", "num_faults, max cell difference"),
    Word(r"\b[Rr]ungs?\b|\bladder\b", "remedy, retry policy"),
    # plain English
    Word(r"\b[Aa]new\b", "again, regenerated"),
    Word(r"\b[Mm]end(s|ed|ing)?\b", "fix, repair"),
    Word(r"\b([Aa]ny|[Ss]ome)body\b", "arbitrary, a user"),
    Word(r"[Ff]riendly face", "high-level API"),
    Word(r"turned around", "deconvolution, reversed"),
)

MODULES = {"names", "passes", "seams", "fitting", "settle", "grids"}
"""File names that say nothing of what is in them."""

VERBS = {"embed", "feed", "need", "read", "set", "put", "cut", "split", "spread"}
"""Verbs that look like participles, or have the same form."""

IRREGULAR = {
    "bent", "bound", "brought", "built", "caught", "chosen", "done", "drawn", "driven", "fed", "found", "given", "gone", "held",
    "heard", "hidden", "kept", "known", "laid", "led", "left", "lost", "made", "met", "paid", "said", "seen", "sent", "shown",
    "sold", "stood", "taken", "thought", "told", "won", "worn", "written",
}  # fmt: skip

NOUNS = {"speed", "seed", "bed", "ring", "string", "timing", "setting", "reading", "meaning", "ending", "thing"}
"""Nouns that look like participles."""

PARTICIPLES = {
    "Clip.resampled": "documented; returns a copy, as Python's ``sorted`` does",
    "MOVAModel.made_by": "a noun of the format: the key of a file's record",
    "Model.made_by": "the same, as the protocol of a run states it",
    "given_pictures": "returns a ``Given``",
    "given_video": "returns a ``Given``",
    "given_audio": "returns a ``Given``",
    "given_beginning": "returns a ``Given``",
    "given_end": "returns a ``Given``",
    "given_edges": "returns a ``Given``",
    "given_pictures_of": "returns a ``Given``",
    "given_around": "returns a ``Given``",
    "given_levels": "the levels of a ``Given``",
    "shifted_sigmas": "the field's name of the schedule",
    "configured_sigmas": "named as ``shifted_sigmas``",
    "damped_modes": "a noun of acoustics",
    "known_kinds": "documented",
    "counted": "documented; a phrase such as 'two flashes'",
    "Alignment.expected_s": "a noun: the lag that is expected at an event",
    "unrelated": "a family of scenes",
    "_LiveBytes.paused": "a context in which nothing is counted",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts() -> list[Path]:
    """Everything that people read: code, docs, recipes."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "mkdocs.yml", *(ROOT / "docs").glob("*.md")]
    recipes = [path for path in (ROOT / "recipes").rglob("*") if path.is_file()]
    return sorted([*pages, *recipes, *PACKAGE.rglob("*.py")])


def python_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def uses(path: Path, word: Word) -> Iterator[str]:
    if any(name_of(path).startswith(part) for part, _ in word.allowed):
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if re.search(word.pattern, line.replace("mova film", "").replace("mova.film", "").replace("film.render", "")):
            yield f"{name_of(path)}:{number}: say {word.say}: {line.strip()}"


def is_participle(name: str) -> bool:
    first = name.split("_")[0]
    if first in VERBS or first in NOUNS:
        return False
    return first in IRREGULAR or (len(first) > 4 and re.search(r"(ed|ing)$", first) is not None)


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Public functions and methods with their qualified names; properties are nouns and left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    scopes = [("", tree.body), *((f"{node.name}.", node.body) for node in tree.body if isinstance(node, ast.ClassDef))]
    for prefix, body in scopes:
        for node in body:
            is_public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if is_public and not any("property" in ast.unparse(one) for one in node.decorator_list):
                yield prefix + node.name, node


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.say.split(",")[0].split(";")[0])
def test_words_of_our_own_are_not_used(word: Word) -> None:
    found = [use for path in texts() for use in uses(path, word)]
    assert not found, "\n".join(found)


def test_functions_are_verbs_not_participles() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}: {name}"
        for path in python_files()
        for name, node in functions(path)
        if is_participle(name.split(".")[-1]) and name not in PARTICIPLES
    ]
    assert not found, "\n".join(found)


def test_arguments_are_described_by_noun_phrases() -> None:
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in python_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.match(r"\s+\*{0,2}\w+: Of (?!f)", line)
    ]
    assert not found, "\n".join(found)


def test_file_names_say_what_is_in_them() -> None:
    found = [name_of(path) for path in python_files() if path.stem in MODULES]
    assert not found, found
