"""What comes back from raters: votes as JSON lines, made into comparisons with the key, and held against the checks.

A vote knows opaque names only; the key, which raters never get, says what they stand for. A line that is no vote is
reported by file and line number and left out: one broken line does not spoil the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mova.errors import MediaError
from mova.files import open_regular, read_regular

Mode = Literal["both", "sound", "picture"]
Choice = Literal["left", "right", "tie"]
MODES: tuple[Mode, ...] = ("both", "sound", "picture")

MAX_LINE_BYTES = 10_000
MAX_LINES = 5_000_000
MAX_KEY_BYTES = 200_000_000
# control and formatting characters, halves of surrogate pairs, line and paragraph separators
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
PASSING_SHARE = Fraction(2, 3)
"""A rater with a smaller share of right answers to the attention checks fails; who always ties, or guesses, does."""


def _printable(text: str) -> str:
    """Refuse what could move the cursor, turn the writing or colour the terminal when it is shown."""
    if not text.strip() or any(category(character) in _UNPRINTABLE for character in text):
        raise ValueError("must be printable text")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]


class Vote(BaseModel):
    """One line of a votes file, as the page writes it.

    ``pair`` and ``arena`` are opaque; ``seconds`` is the time the rater took, ``voted_at`` the rater's own clock.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    arena: str = Field(max_length=64)
    pair: str = Field(max_length=64)
    mode: Mode
    rater: Name
    vote: Choice
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    voted_at: str = Field(default="", max_length=40)


class KeyPair(BaseModel):
    """What a pair of the page stands for.

    ``prompt`` is the stem of the videos. ``answers`` are the right answers by mode if the pair is an attention check;
    its videos then count for no system.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    prompt: str
    left: str
    right: str
    left_file: str
    right_file: str
    check: Literal["same", "late"] | None = None
    answers: Mapping[Mode, Choice] = Field(default_factory=dict)


class Key(BaseModel):
    """What the opaque names of one page stand for; it stays with whoever made the page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arena: str
    seed: int
    modes: tuple[Mode, ...]
    systems: tuple[Name, ...]
    pairs: tuple[KeyPair, ...]


@dataclass(frozen=True)
class Comparison:
    """A vote with its systems named.

    Args:
        left: System whose video was on the left.
        right: System whose video was on the right.
        choice: Which won.
        prompt: What the two videos were made from; the unit of the bootstrap.
        rater: Who voted; the other unit.
    """

    left: str
    right: str
    choice: Choice
    prompt: str
    rater: str


@dataclass(frozen=True)
class Problem:
    """A line that is no vote: where it is and what is wrong with it."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path} line {self.line}: {self.what}"


@dataclass(frozen=True)
class RaterChecks:
    """How a rater did on the attention checks.

    Args:
        rater: Name.
        num_votes: Comparisons from this rater, checks not counted.
        answered: Checks answered.
        right: Number of right answers among these.
    """

    rater: str
    num_votes: int
    answered: int
    right: int

    @property
    def is_failing(self) -> bool:
        """Whether the rater answered checks and too few of them right."""
        return self.answered > 0 and Fraction(self.right, self.answered) < PASSING_SHARE


@dataclass(frozen=True)
class Ballots:
    """Votes files, read.

    Args:
        comparisons: By mode, in the order of :data:`MODES`; modes without votes are left out.
        raters: All raters, also those without a comparison.
        problems: Lines that were left out.
        num_lines: Lines that are not blank.
        num_replaced: Votes that the same rater gave again later, or that are in the files twice; the last counts.
    """

    comparisons: Mapping[Mode, tuple[Comparison, ...]]
    raters: tuple[RaterChecks, ...]
    problems: tuple[Problem, ...]
    num_lines: int
    num_replaced: int

    def without(self, raters: Sequence[str]) -> Ballots:
        """The same without the comparisons of some raters; they stay in :attr:`raters`."""
        kept = {mode: tuple(o for o in one if o.rater not in raters) for mode, one in self.comparisons.items()}
        left = {mode: one for mode, one in kept.items() if one}
        return Ballots(left, self.raters, self.problems, self.num_lines, self.num_replaced)


def read_ballots(paths: Sequence[Path], key: Key) -> Ballots:
    """Read votes files with the key of their page.

    Raises:
        MediaError: If a file cannot be read, or none of their lines is a vote on this page.
    """
    pairs = {pair.id: pair for pair in key.pairs}
    latest: dict[tuple[str, str, Mode], Vote] = {}
    problems: list[Problem] = []
    num_lines = num_votes = 0
    for path in paths:
        for number, line in _lines(path):
            num_lines += 1
            vote = _parsed(line)
            fault = vote if isinstance(vote, str) else _misfit(vote, key, pairs)
            if fault is not None or isinstance(vote, str):
                problems.append(Problem(path, number, fault or ""))
                continue
            num_votes += 1
            place = (vote.rater, vote.pair, vote.mode)
            known = latest.get(place)
            # clocks are written alike by the page, so they compare as text; without one the later line is the later
            if known is None or known.voted_at <= vote.voted_at:
                latest[place] = vote
    if not latest:
        first = f"; {problems[0]}" if problems else ""
        raise MediaError(
            f"no vote on this page in {', '.join(map(str, paths))} ({num_lines} lines{first}).",
            "Give the file that the page's button 'Download votes' saved.",
        )
    votes = tuple(latest.values())
    return Ballots(
        comparisons=_comparisons(votes, pairs),
        raters=_held_against_checks(votes, pairs),
        problems=tuple(problems),
        num_lines=num_lines,
        num_replaced=num_votes - len(latest),
    )


def read_key(path: Path) -> Key:
    """Read the key that ``mova arena make`` wrote beside its page.

    Raises:
        MediaError: If it is missing or is no key.
    """
    try:
        return Key.model_validate_json(read_regular(path, max_bytes=MAX_KEY_BYTES))
    except OSError as error:
        raise MediaError(f"cannot read the key {path}: {error.strerror or error}.", "Give it with --key.") from None
    except ValidationError as error:
        raise MediaError(f"{path} is not the key of an arena: {_first(error)}.", "Give it with --key.") from None


def find_key(votes: Sequence[Path], folders: Sequence[Path]) -> Path:
    """The only file ``*-key.json`` in some folders that is the key to the first vote.

    Raises:
        MediaError: If there is none.
    """
    arenas = {vote.arena for path in votes for _, line in _lines(path) if isinstance(vote := _parsed(line), Vote)}
    candidates = sorted({one.resolve() for folder in folders for one in folder.glob("*-key.json")})
    for candidate in candidates:
        try:
            if read_key(candidate).arena in arenas:
                return candidate
        except MediaError:
            continue  # another program's key
    looked = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    raise MediaError(
        f"no key to these votes in {looked} ({len(candidates)} files *-key.json there).",
        "Give it with --key; `mova arena make` wrote it beside the page's folder.",
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers; a line that is too long comes as its beginning."""
    try:
        with open_regular(path) as handle:
            number = 0
            while line := handle.readline(MAX_LINE_BYTES + 1):
                number += 1
                if number > MAX_LINES:
                    raise MediaError(f"{path} has more than {MAX_LINES} lines.")
                rest = line
                while not rest.endswith(b"\n") and (rest := handle.readline(MAX_LINE_BYTES)):
                    pass
                if line.strip():
                    yield number, line
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}.", "Give a file of votes.") from None


def _parsed(line: bytes) -> Vote | str:
    """The vote of a line, or what is wrong with it."""
    if len(line) > MAX_LINE_BYTES:
        return f"longer than {MAX_LINE_BYTES} bytes"
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(value, dict):
        return "not a JSON object"
    try:
        return Vote.model_validate(value)
    except ValidationError as error:
        return _first(error)


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{place}: {message}" if place else message


def _misfit(vote: Vote, key: Key, pairs: Mapping[str, KeyPair]) -> str | None:
    if vote.arena != key.arena:
        return f"a vote on another page ({vote.arena!r} instead of {key.arena!r})"
    if vote.pair not in pairs:
        return f"there is no pair {vote.pair!r} in the key"
    return None if vote.mode in key.modes else f"the page has no mode {vote.mode!r}"


def _comparisons(votes: Sequence[Vote], pairs: Mapping[str, KeyPair]) -> dict[Mode, tuple[Comparison, ...]]:
    found: dict[Mode, list[Comparison]] = {mode: [] for mode in MODES}
    for vote in votes:
        pair = pairs[vote.pair]
        if pair.check is None:
            found[vote.mode].append(Comparison(pair.left, pair.right, vote.vote, pair.prompt, vote.rater))
    return {mode: tuple(ones) for mode, ones in found.items() if ones}


def _held_against_checks(votes: Sequence[Vote], pairs: Mapping[str, KeyPair]) -> tuple[RaterChecks, ...]:
    tally: dict[str, list[int]] = {}
    for vote in votes:
        counts = tally.setdefault(vote.rater, [0, 0, 0])
        pair = pairs[vote.pair]
        if pair.check is None:
            counts[0] += 1
        elif vote.mode in pair.answers:
            counts[1] += 1
            counts[2] += vote.vote == pair.answers[vote.mode]
    return tuple(RaterChecks(rater, *counts) for rater, counts in sorted(tally.items()))
