"""``mova arena make`` and ``mova arena rank``: a blind page for raters, and what their votes say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mova.cli import console
from mova.cli.options import with_flag_names
from mova.errors import RequestError

if TYPE_CHECKING:
    from mova.lab.arena.rank import Interval, Ranking
    from mova.lab.arena.votes import Ballots, Mode

MODE_WORDS = {"both": "video and audio", "sound": "audio only", "picture": "video only"}
_TOLD_AT_MOST = 10


@dataclass(frozen=True)
class PageOptions:
    """What ``mova arena make`` was asked for; see :func:`mova.lab.arena.page.make_page`."""

    seed: int
    num_pairs: int | None
    num_checks: int | None
    modes: tuple[str, ...]
    title: str
    keeps_loudness: bool
    is_json: bool


@dataclass(frozen=True)
class RankOptions:
    """What ``mova arena rank`` was asked for.

    Args:
        key: Key of the page; None looks beside the votes and in the working folder.
        modes: To rank; empty for all that have votes.
        drops_failing: Leave out raters who fail the attention checks.
        num_resamples: Number of resamples of the bootstrap.
        seed: Seed of the bootstrap.
        is_json: One JSON document on stdout instead of tables.
    """

    key: Path | None
    modes: tuple[str, ...]
    drops_failing: bool
    num_resamples: int
    seed: int
    is_json: bool


def make(folders: list[Path], output: Path, options: PageOptions) -> None:
    """Write the page and its key, and say what is in it."""
    from mova.lab.arena.page import make_page
    from mova.lab.arena.votes import MODES

    try:
        made = make_page(
            folders,
            output,
            seed=options.seed,
            num_pairs=options.num_pairs,
            num_checks=options.num_checks,
            modes=cast("tuple[Mode, ...]", options.modes or MODES),
            title=options.title,
            matches_loudness=not options.keeps_loudness,
            on_progress=console.ProgressLine("videos").update,
        )
    except RequestError as problem:
        raise with_flag_names(problem) from None
    for note in made.notes:
        console.say(f"note: {note}")
    if options.is_json:
        console.facts_json(asdict(made))
        return
    console.fact(
        f"{made.page}  {console.count(made.num_pairs, 'pair')} of {len(made.systems)} systems on "
        f"{console.count(made.num_prompts, 'prompt')}, "
        f"{console.count(made.num_checks, 'attention check')} ({made.num_late} with late audio), {made.size_bytes / 1e6:.1f} MB"
    )
    console.fact(f"{made.key}  which video is whose: keep it, do not give it to raters")
    console.say(f"raters open {made.page / 'index.html'} in a browser; then: mova arena rank votes-*.jsonl --key {made.key}")


def rank(votes: list[Path], options: RankOptions) -> None:
    """Read the votes, leave out what is to be left out, rank each mode, and print tables."""
    from mova.lab.arena.votes import find_key, read_ballots, read_key

    key_path = options.key or find_key(votes, [*(path.parent for path in votes), Path()])
    ballots = read_ballots(votes, read_key(key_path))
    _tell_problems(ballots)
    failing = [one.rater for one in ballots.raters if one.is_failing]
    counted = ballots.without(failing) if options.drops_failing else ballots
    try:
        modes = _wanted_modes(counted, options, num_dropped=len(failing) if options.drops_failing else 0)
        rankings = {mode: _ranked(mode, counted, options) for mode in modes}
    except RequestError as problem:
        raise with_flag_names(problem) from None
    if options.is_json:
        console.facts_json(_as_json(ballots, rankings, drops_failing=options.drops_failing))
        return
    for mode, result in rankings.items():
        _print_ranking(mode, result)
    _print_raters(ballots, drops_failing=options.drops_failing)


def _ranked(mode: Mode, ballots: Ballots, options: RankOptions) -> Ranking:
    from mova.lab.arena import rank as ranking

    try:
        return ranking.rank(ballots.comparisons[mode], num_resamples=options.num_resamples, seed=options.seed)
    except RequestError as problem:
        if problem.field is not None:
            raise
        raise RequestError(f"{MODE_WORDS[mode]}: {problem.message}", problem.hint) from None


def _wanted_modes(ballots: Ballots, options: RankOptions, *, num_dropped: int) -> tuple[Mode, ...]:
    unknown = [mode for mode in options.modes if mode not in MODE_WORDS]
    if unknown:
        raise RequestError(f"mode must be one of {', '.join(MODE_WORDS)}; got {', '.join(unknown)}.", field="mode")
    empty = [mode for mode in options.modes if mode not in ballots.comparisons]
    if empty or not ballots.comparisons:
        left_out = f" besides those of {num_dropped} raters who fail" if num_dropped else ""
        what = f" in the mode {', '.join(empty)}" if empty else ""
        raise RequestError(
            f"there are no votes{what} between different systems{left_out}.",
            f"There are votes in: {', '.join(ballots.comparisons)}." if ballots.comparisons else "Collect more votes.",
        )
    return tuple(mode for mode in ballots.comparisons if not options.modes or mode in options.modes)


def _tell_problems(ballots: Ballots) -> None:
    for problem in ballots.problems[:_TOLD_AT_MOST]:
        console.say(f"left out: {problem}")
    if ballots.problems:
        more = len(ballots.problems) - _TOLD_AT_MOST
        console.say(
            (f"left out: {more} more lines; " if more > 0 else "")
            + f"{len(ballots.problems)} of {ballots.num_lines} lines are no votes on this page"
        )
    if ballots.num_replaced:
        console.say(f"{console.count(ballots.num_replaced, 'vote')} given again later, or there twice: the last ones count")


def _print_ranking(mode: str, result: Ranking) -> None:
    console.fact(
        f"{MODE_WORDS[mode]}: {console.count(result.num_votes, 'vote')}, {console.count(result.num_prompts, 'prompt')}, "
        f"{console.count(result.num_raters, 'rater')}"
        + (f"; 95 % intervals over prompts and raters ({result.num_resamples} resamples)" if result.num_resamples else "")
    )
    console.table(
        ("rank", "system", "rating", "95 %", "net win %", "95 %", "votes", "won", "tied", "lost"),
        [
            (
                _place(number, one.ranks),
                one.system,
                f"{one.rating:+.0f}",
                _signed(one.interval, 0),
                f"{one.net_win_rate:+.1f}",
                _signed(one.net_win_interval, 1),
                *(str(count) for count in (one.num_votes, one.wins, one.ties, one.losses)),
            )
            for number, one in enumerate(result.ratings, start=1)
        ],
        left=(1,),
    )
    if len(result.ratings) > 2:
        console.table(
            ("pair", "net win %", "95 %", "votes", "won", "tied", "lost", "above in"),
            [
                (
                    f"{one.first} : {one.second}",
                    "-" if one.net_win_rate is None else f"{one.net_win_rate:+.1f}",
                    _signed(one.net_win_interval, 1),
                    *(str(count) for count in (one.wins + one.ties + one.losses, one.wins, one.ties, one.losses)),
                    "-" if one.chance_above is None else f"{100 * one.chance_above:.1f} %",
                )
                for one in result.meetings
            ],
            left=(0,),
        )
    if result.left_share is not None:
        console.fact(f"the left video won {100 * result.left_share:.0f} % of the votes with a winner")
    for note in result.notes:
        console.fact(f"note: {note}")
    console.fact("")


def _print_raters(ballots: Ballots, *, drops_failing: bool) -> None:
    console.table(
        ("rater", "votes", "checks right", ""),
        [
            (
                one.rater,
                str(one.num_votes),
                f"{one.right} of {one.answered}" if one.answered else "none answered",
                ("fails, left out" if drops_failing else "fails") if one.is_failing else "",
            )
            for one in ballots.raters
        ],
        left=(0, 3),
    )
    if any(one.is_failing for one in ballots.raters) and not drops_failing:
        console.say("note: raters who fail attention checks are counted; leave them out with --drop-failing")


def _place(number: int, ranks: tuple[int, int] | None) -> str:
    return str(number) if ranks is None or ranks == (number, number) else f"{number} ({ranks[0]}-{ranks[1]})"


def _signed(interval: Interval | None, digits: int) -> str:
    return "-" if interval is None else f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}"


def _as_json(ballots: Ballots, rankings: Mapping[Mode, Ranking], *, drops_failing: bool) -> dict[str, Any]:
    return {
        "modes": {mode: _ranking_as_json(result) for mode, result in rankings.items()},
        "raters": [
            asdict(one) | {"is_failing": one.is_failing, "is_counted": not (drops_failing and one.is_failing)}
            for one in ballots.raters
        ],
        "num_lines": ballots.num_lines,
        "num_replaced": ballots.num_replaced,
        "problems": [{"file": str(one.path), "line": one.line, "what": one.what} for one in ballots.problems],
    }


def _ranking_as_json(result: Ranking) -> dict[str, Any]:
    document = asdict(result)
    for rating, one in zip(document["ratings"], result.ratings, strict=True):
        rating["num_votes"] = one.num_votes
    return document
