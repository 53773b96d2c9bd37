"""The arena: who meets whom, what is copied, what is read back, and what follows from the votes."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mova.errors import MediaError, RequestError
from mova.lab.arena.blind import copy_blind, inspect_video, list_videos, volumes
from mova.lab.arena.davidson import RIDGE, Counts, fit, pairs_of
from mova.lab.arena.page import make_page, render_page
from mova.lab.arena.pairs import LATE_S, plan_checks, plan_pairs, write_late
from mova.lab.arena.rank import POINTS_PER_NATURAL_UNIT, rank
from mova.lab.arena.votes import Comparison, Key, KeyPair, find_key, read_ballots, read_key
from mova.media.clip import Clip
from mova.media.decode import read_clip
from mova.media.probe import probe

# ---- the model ----


def tournament(strengths: np.ndarray, nu: float, *, num_prompts: int, num_raters: int, seed: int) -> list[Comparison]:
    """Votes drawn from Davidson's model: every rater compares two systems on every prompt."""
    generator = np.random.default_rng(seed)
    votes = []
    for prompt in range(num_prompts):
        for rater in range(num_raters):
            i, j = generator.permutation(len(strengths))[:2]
            odds = np.array([np.exp(strengths[i]), np.exp(strengths[j]), nu * np.exp((strengths[i] + strengths[j]) / 2)])
            choice = ("left", "right", "tie")[int(np.searchsorted(np.cumsum(odds) / odds.sum(), generator.random()))]
            votes.append(Comparison(f"s{i}", f"s{j}", choice, f"p{prompt}", f"r{rater}"))  # type: ignore[arg-type]
    return votes


def ratings_of(votes: list[Comparison]) -> np.ndarray:
    """Strengths in natural units, in the order of the names."""
    found = {one.system: one.rating for one in rank(votes, num_resamples=0).ratings}
    return np.array([found[name] for name in sorted(found)]) / POINTS_PER_NATURAL_UNIT


def by_brute_force(votes: list[Comparison]) -> np.ndarray:
    """The same likelihood written vote by vote, maximised without derivatives of ours."""
    names = sorted({name for vote in votes for name in (vote.left, vote.right)})
    index = {name: number for number, name in enumerate(names)}
    has_ties = any(vote.choice == "tie" for vote in votes)

    def loss(parameters: np.ndarray) -> float:
        total = RIDGE * float(np.sum(parameters**2))
        for vote in votes:
            a, b = parameters[index[vote.left]], parameters[index[vote.right]]
            odds = {"left": np.exp(a), "right": np.exp(b), "tie": np.exp(parameters[-1]) * np.exp((a + b) / 2)}
            if not has_ties:
                odds["tie"] = 0.0
            total -= np.log(odds[vote.choice] / sum(odds.values()))
        return total

    found = minimize(loss, np.zeros(len(names) + 1), method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9}).x[:-1]
    return found - found.mean()


@pytest.mark.parametrize("nu", [0.0, 0.6])
def test_ratings_are_those_of_an_independent_maximisation(nu: float) -> None:
    votes = tournament(np.array([0.7, -0.4, 0.1, -0.2]), nu, num_prompts=25, num_raters=3, seed=1)
    assert np.allclose(ratings_of(votes), by_brute_force(votes), atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_ratings_without_ties_are_those_of_choix(seed: int) -> None:
    choix = pytest.importorskip("choix", reason="choix is not installed; the brute-force test covers the same ground")
    strengths = np.random.default_rng(seed).normal(size=6)
    votes = tournament(strengths, 0.0, num_prompts=80, num_raters=2, seed=seed)
    names = sorted({name for vote in votes for name in (vote.left, vote.right)})
    won = [(v.left, v.right) if v.choice == "left" else (v.right, v.left) for v in votes]
    data = [(names.index(winner), names.index(loser)) for winner, loser in won]
    expected = choix.opt_pairwise(len(names), data, alpha=RIDGE, tol=1e-9)
    assert np.allclose(ratings_of(votes), expected - expected.mean(), atol=1e-5)


def test_the_strengths_that_drew_the_votes_come_back() -> None:
    strengths = np.array([1.0, 0.3, 0.0, -1.3])
    votes = tournament(strengths, 0.5, num_prompts=2000, num_raters=1, seed=3)
    result = rank(votes, num_resamples=0)
    # 2000 votes on four systems: the standard error of a strength is near 0.05
    assert np.allclose(ratings_of(votes), strengths - strengths.mean(), atol=0.15)
    assert result.nu == pytest.approx(0.5, abs=0.08)
    assert [one.system for one in result.ratings] == ["s0", "s1", "s2", "s3"]


def test_four_hundred_points_are_odds_of_ten_to_one() -> None:
    votes = [Comparison("a", "b", "left", f"p{n}", "r") for n in range(1000)]
    votes += [Comparison("a", "b", "right", f"q{n}", "r") for n in range(100)]
    first, second = rank(votes, num_resamples=0).ratings
    assert first.rating - second.rating == pytest.approx(400, abs=0.5)  # the ridge takes a little
    assert first.rating + second.rating == pytest.approx(0, abs=1e-9)
    assert first.net_win_rate == pytest.approx(100 * 900 / 1100)


counts_of_three = st.lists(st.integers(0, 12), min_size=9, max_size=9)


@settings(max_examples=25, deadline=None)
@given(counts_of_three)
def test_the_gradient_vanishes_at_the_fit_whatever_the_counts(numbers: list[int]) -> None:
    table = np.array(numbers, dtype=float).reshape(3, 1, 3)
    found = fit(Counts(*table), 3)
    wins, losses, ties = (part[0] for part in table)
    s, nu = found.strengths[0], found.nu[0]
    gradient = -2 * RIDGE * s
    tie_gradient = ties.sum() - (2 * RIDGE * np.log(nu) if nu else 0.0)
    for n, (i, j) in enumerate(pairs_of(3)):
        odds = np.array([np.exp(s[i]), np.exp(s[j]), nu * np.exp((s[i] + s[j]) / 2)])
        p = odds / odds.sum()
        met = wins[n] + losses[n] + ties[n]
        slope = (wins[n] - losses[n] - met * (p[0] - p[1])) / 2
        gradient[i], gradient[j] = gradient[i] + slope, gradient[j] - slope
        tie_gradient -= met * p[2]
    assert np.abs(gradient).max() < 1e-6 and abs(tie_gradient) < 1e-6
    assert (nu == 0) == (ties.sum() == 0) and abs(s.mean()) < 1e-12


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.7]))
def test_swapping_sides_mirrors_the_votes_and_changes_no_rating(seed: int, nu: float) -> None:
    votes = tournament(np.array([0.5, 0.0, -0.5]), nu, num_prompts=12, num_raters=2, seed=seed)
    other = {"left": "right", "right": "left", "tie": "tie"}
    mirrored = [replace(v, left=v.right, right=v.left, choice=other[v.choice]) for v in votes]  # type: ignore[arg-type]
    assert np.allclose(ratings_of(votes), ratings_of(mirrored), atol=1e-8)


def test_a_batch_of_tables_is_fitted_as_each_alone() -> None:
    generator = np.random.default_rng(5)
    tables = generator.integers(0, 20, (3, 7, 6)).astype(float)
    tables[2, 3] = 0  # one table without ties among others with them
    together = fit(Counts(*tables), 4)
    for n in range(7):
        alone = fit(Counts(*tables[:, n : n + 1]), 4)
        assert np.allclose(together.strengths[n], alone.strengths[0], atol=1e-9)
        assert together.nu[n] == pytest.approx(alone.nu[0])


def test_an_undefeated_system_stays_finite_and_is_noted() -> None:
    votes = [Comparison("a", "b", "left", f"p{n}", "r") for n in range(20)]
    result = rank(votes)
    assert 400 < result.ratings[0].rating < 2000
    assert any("lower bound" in note for note in result.notes)


def test_only_ties_is_a_draw() -> None:
    result = rank([Comparison("a", "b", "tie", f"p{n}", f"r{n % 3}") for n in range(9)])
    assert [one.rating for one in result.ratings] == pytest.approx([0, 0], abs=1e-9)
    assert result.left_share is None and np.isfinite(result.nu)


# ---- intervals and what is refused ----


def test_groups_that_never_met_are_refused_by_name() -> None:
    votes = [Comparison("a", "b", "left", "p", "r"), Comparison("c", "d", "tie", "p", "r")]
    with pytest.raises(RequestError, match=r"2 groups.*\{a, b\} and \{c, d\}"):
        rank(votes)


def test_no_votes_are_refused() -> None:
    with pytest.raises(RequestError, match="no votes"):
        rank([])


def test_the_same_seed_gives_the_same_intervals_and_they_hold_the_rating() -> None:
    votes = tournament(np.array([1.5, 0.0, -1.5]), 0.4, num_prompts=30, num_raters=4, seed=2)
    once, again, other = (rank(votes, num_resamples=300, seed=seed) for seed in (0, 0, 1))
    assert once == again and once != other
    for one in once.ratings:
        assert one.interval is not None and one.interval[0] < one.rating < one.interval[1]
        assert one.net_win_interval is not None and one.net_win_interval[0] < one.net_win_rate < one.net_win_interval[1]
    assert once.ratings[0].ranks == (1, 1) and once.meetings[0].chance_above == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("few", ["prompt", "rater"])
def test_many_votes_on_few_prompts_or_of_few_raters_are_no_more_certain_than_these(few: str) -> None:
    """Eight prompts (or raters), each for one system throughout: 800 votes know hardly more than eight."""
    many = {"prompt": "rater", "rater": "prompt"}[few]
    votes = [
        Comparison("a", "b", "left" if n % 2 else "right", **{few: f"f{n}", many: f"m{m}"})
        for n in range(8)
        for m in range(100)
    ]
    interval = rank(votes, num_resamples=400).ratings[0].net_win_interval
    assert interval is not None
    # drawing single votes would make this 14 points; eight coin tosses have 2 * 1.96 * 100 / sqrt(8) = 139
    assert 90 < interval[1] - interval[0] < 160


def test_the_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = np.array([0.3, 0.0, -0.3])
    held = []
    for seed in range(25):
        votes = tournament(truth, 0.4, num_prompts=40, num_raters=4, seed=100 + seed)
        for one in rank(votes, num_resamples=200, seed=seed).ratings:
            assert one.interval is not None
            held.append(one.interval[0] <= truth[int(one.system[1])] * POINTS_PER_NATURAL_UNIT <= one.interval[1])
    # 75 intervals of nominal 95 %; the two-way bootstrap is wide rather than narrow
    assert np.mean(held) > 0.9


def test_one_vote_on_one_prompt_has_no_interval() -> None:
    result = rank([Comparison("a", "b", "left", "p", "r")])
    assert result.ratings[0].interval is None and result.num_resamples == 0
    assert any("too few" in note for note in result.notes)


def test_one_rater_is_noted() -> None:
    result = rank([Comparison("a", "b", ("left", "right", "tie")[n % 3], f"p{n}", "r") for n in range(30)])
    assert result.ratings[0].interval is not None
    assert any(note.startswith("one rater only") for note in result.notes)


def test_meetings_count_for_the_better_system_and_the_left_share_is_told() -> None:
    votes = [Comparison("a", "b", "left", f"p{n}", f"r{n % 2}") for n in range(6)]
    votes += [Comparison("b", "a", "tie", f"q{n}", f"r{n % 2}") for n in range(3)]
    votes += [Comparison("b", "a", "left", f"q{n}", f"r{n % 2}") for n in range(2)]
    result = rank(votes, num_resamples=50)
    (meeting,) = result.meetings
    assert (meeting.first, meeting.wins, meeting.ties, meeting.losses) == ("a", 6, 3, 2)
    assert meeting.net_win_rate == pytest.approx(100 * 4 / 11) and result.left_share == 1.0


# ---- pairs ----


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(1, 9), st.integers(0, 1000), st.data())
def test_pairs_are_balanced_in_couples_and_sides(num_systems: int, num_names: int, seed: int, data: st.DataObject) -> None:
    systems, names = [f"s{k}" for k in range(num_systems)], [f"p{k}" for k in range(num_names)]
    couples = num_systems * (num_systems - 1) // 2
    wanted = data.draw(st.integers(1, couples * num_names))
    pairs = plan_pairs(systems, names, seed=seed, num_pairs=wanted)
    assert pairs == plan_pairs(systems, names, seed=seed, num_pairs=wanted)
    assert len(set((frozenset((p.left, p.right)), p.name) for p in pairs)) == len(pairs) == wanted
    met = Counter(frozenset((p.left, p.right)) for p in pairs)
    assert max(met.values()) - (min(met.values()) if len(met) == couples else 0) <= 1
    for couple in met:
        first = min(couple)
        on_left = sum(p.left == first for p in pairs if {p.left, p.right} == couple)
        assert abs(2 * on_left - met[couple]) <= 1
    # in order, too: whoever stops early has judged every couple
    for start in range(0, wanted - couples + 1, couples):
        assert len({frozenset((p.left, p.right)) for p in pairs[start : start + couples]}) == couples


def test_sides_are_not_in_strict_turns() -> None:
    sides = [p.left for p in plan_pairs(["a", "b"], [f"p{k}" for k in range(40)], seed=0)]
    assert any(one == two for one, two in zip(sides, sides[1:], strict=False))


def test_more_pairs_than_there_are_name_the_most() -> None:
    with pytest.raises(RequestError, match="1 to 2 ") as told:
        plan_pairs(["a", "b"], ["x", "y"], seed=0, num_pairs=3)
    assert told.value.field == "num_pairs"


# ---- videos ----


def tiny_clip(seed: int, *, seconds: float = 0.5, prompt: str | None = None, gain: float = 0.3) -> Clip:
    generator = np.random.default_rng(seed)
    num_frames = round(16 * seconds)
    frames = generator.integers(0, 255, (num_frames, 32, 32, 3), dtype=np.uint8)
    waveform = generator.uniform(-gain, gain, (1, num_frames * 1000)).astype(np.float32)
    return Clip(frames, waveform, Fraction(16), 16000, request=None if prompt is None else {"prompt": prompt})


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems, two prompts; one video lasts long enough for a check with late audio."""
    root = tmp_path_factory.mktemp("videos")
    for number, system in enumerate(("alpha-system", "beta-system")):
        (root / system).mkdir()
        for stem, seconds in (("one", 2.0), ("two", 0.5)):
            clip = tiny_clip(number, seconds=seconds, prompt=f"<b>{stem}</b> & </script>")
            clip.save(root / system / f"{stem}.mp4", metadata={"title": "made by " + system, "artist": system})
    return root


@pytest.mark.parametrize(("suffix", "target"), [(".mp4", ".mp4"), (".mov", ".mp4"), (".mkv", ".mp4"), (".webm", ".webm")])
def test_a_blind_copy_plays_the_same_and_says_nothing(tmp_path: Path, suffix: str, target: str) -> None:
    source, copy = tmp_path / f"source{suffix}", tmp_path / f"copy{target}"
    tiny_clip(1, prompt="secret words").save(source, metadata={"title": "secret system"})
    assert inspect_video(source, needs_audio=True).suffix == target
    copy_blind(source, copy)
    before, after = read_clip(source), read_clip(copy)
    assert np.array_equal(before.frames, after.frames) and before.fps == after.fps
    # Matroska states times in milliseconds: the last of them may be lost on the way to MP4
    same = before.waveform.shape[1] - (before.sample_rate // 1000 if suffix == ".mkv" else 0)
    assert np.array_equal(before.waveform[:, :same], after.waveform[:, :same])
    content = copy.read_bytes()
    assert b"secret" in source.read_bytes() and b"secret" not in content and b"x264" not in content
    assert after.request is None and "title" not in probe(copy).metadata


def test_a_video_that_is_cut_short_is_named_and_leaves_no_copy(tmp_path: Path) -> None:
    source = tmp_path / "short.mp4"
    tiny_clip(1, seconds=2.0).save(source)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"short\.mp4"):
        copy_blind(source, tmp_path / "copy.mp4")
    assert not (tmp_path / "copy.mp4").exists()


def test_videos_that_browsers_do_not_play_are_refused(tmp_path: Path) -> None:
    tiny_clip(0).save(tmp_path / "a.gif")
    with pytest.raises(MediaError, match=r"no video in"):
        list_videos(tmp_path)
    tiny_clip(0).save(tmp_path / "sound.wav")
    (tmp_path / "sound.wav").rename(tmp_path / "sound.mp4")
    with pytest.raises(MediaError, match=r"sound\.mp4 has no picture"):
        inspect_video(tmp_path / "sound.mp4", needs_audio=True)
    (tmp_path / "a.gif").rename(tmp_path / "a.mkv")
    with pytest.raises(MediaError, match=r"a\.mkv has no audio"):
        inspect_video(tmp_path / "a.mkv", needs_audio=True)


def test_two_videos_of_one_stem_are_refused(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.webm"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(MediaError, match="same stem"):
        list_videos(tmp_path)


def test_late_audio_is_late_by_a_second_over_the_same_picture(tmp_path: Path, videos: Path) -> None:
    video = inspect_video(videos / "alpha-system" / "one.mp4", needs_audio=True)
    write_late(video, tmp_path / "a.mkv", tmp_path / "b.mkv")  # lossless audio
    in_step, late = read_clip(tmp_path / "a.mkv"), read_clip(tmp_path / "b.mkv")
    assert np.array_equal(in_step.frames, late.frames)
    shift = round(LATE_S * late.sample_rate)
    assert not late.waveform[:, :shift].any()
    assert np.array_equal(late.waveform[:, shift:], in_step.waveform[:, :-shift])


def test_checks_have_a_right_answer_where_one_is_known(videos: Path) -> None:
    one, two = (inspect_video(videos / "alpha-system" / f"{stem}.mp4", needs_audio=True) for stem in ("one", "two"))
    checks = plan_checks([one, two], 4, modes=("both", "sound", "picture"), seed=0)
    assert [check.kind for check in checks] == ["late", "same", "late", "same"]
    assert {check.video.path for check in checks if check.kind == "late"} == {one.path}  # the other is too short
    late, same = checks[:2]
    assert late.answers(("both", "sound", "picture")) == {
        "both": "left" if late.is_better_left else "right",
        "picture": "tie",
    }
    assert same.answers(("sound",)) == {"sound": "tie"}
    assert {check.kind for check in plan_checks([two], 2, modes=("both",), seed=0)} == {"same"}
    assert {check.kind for check in plan_checks([one], 2, modes=("picture",), seed=0)} == {"same"}


def test_the_louder_video_of_a_pair_is_turned_down() -> None:
    assert volumes(-20.0, -26.0) == (pytest.approx(10 ** (-6 / 20), abs=1e-3), 1.0)
    assert volumes(-20.0, -60.0) == (pytest.approx(10 ** (-10 / 20), abs=1e-3), 1.0)  # not into silence
    assert volumes(None, -10.0) == (1.0, 1.0)


# ---- the page ----


@pytest.fixture(scope="module")
def made(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Key]:
    output = tmp_path_factory.mktemp("out") / "page"
    folders = [videos / "alpha-system", videos / "beta-system"]
    page = make_page(folders, output, seed=7)
    assert (page.num_pairs, page.num_checks, page.num_late, page.notes) == (2, 2, 1, ())
    return output, read_key(page.key)


def test_the_page_gives_no_system_away(made: tuple[Path, Key]) -> None:
    output, key = made
    assert sorted(path.name for path in output.iterdir()) == ["index.html", "videos"]
    names = [path.name for path in (output / "videos").iterdir()]
    assert len(names) == 4 + 2 * 2 and all(len(Path(name).stem) == 16 for name in names)
    for path in output.rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            assert b"alpha" not in content and b"beta-system" not in content, path
    assert len({path.stat().st_mtime for path in (output / "videos").iterdir()}) == 1
    assert key.systems == ("alpha-system", "beta-system")


def test_the_page_holds_every_pair_of_the_key_and_needs_no_network(made: tuple[Path, Key]) -> None:
    output, key = made
    text = (output / "index.html").read_text()
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert data["arena"] == key.arena and [pair["id"] for pair in data["pairs"]] == [pair.id for pair in key.pairs]
    for shown, pair in zip(data["pairs"], key.pairs, strict=True):
        assert shown["prompt"] == f"<b>{pair.prompt}</b> & </script>"
        for side, file in (("left", pair.left_file), ("right", pair.right_file)):
            assert shown[side]["file"] == f"videos/{file}" and (output / "videos" / file).is_file()
    assert "http://" not in text and "https://" not in text and "{{" not in text
    script = text.split("<script>")[1].split("</script>")[0]
    assert f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in text  # no other script may run


def test_the_checks_are_what_the_key_says(made: tuple[Path, Key]) -> None:
    output, key = made
    late = next(pair for pair in key.pairs if pair.check == "late")
    same = next(pair for pair in key.pairs if pair.check == "same")
    assert same.left_file != same.right_file
    assert (output / "videos" / same.left_file).read_bytes() == (output / "videos" / same.right_file).read_bytes()
    files = {"left": late.left_file, "right": late.right_file}
    better = read_clip(output / "videos" / files[late.answers["both"]])
    worse = read_clip(output / "videos" / files[{"left": "right", "right": "left"}[late.answers["both"]]])
    assert np.array_equal(better.frames, worse.frames)
    quiet = int(0.9 * LATE_S * worse.sample_rate)
    assert np.abs(worse.waveform[:, :quiet]).max() < 0.01 < np.abs(better.waveform[:, :quiet]).max()


def test_the_same_seed_writes_the_same_page(made: tuple[Path, Key], videos: Path, tmp_path: Path) -> None:
    output, key = made
    again = make_page([videos / "alpha-system", videos / "beta-system"], tmp_path / "again", seed=7)
    assert read_key(again.key) == key
    assert (again.page / "index.html").read_bytes() == (output / "index.html").read_bytes()


def test_html_in_prompts_and_titles_is_text() -> None:
    hostile = "</script><script>alert(1)</script><!--\u2028\ud800"
    pair = {"id": "x", "prompt": hostile, "left": {}, "right": {}}
    text = render_page({"arena": "a", "modes": ["both"], "pairs": [pair]}, title='"><img src=x> {{DATA}}')
    assert text.count("<script") == 2 and "<img" not in text and "<!--" not in text
    data = text.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["pairs"][0]["prompt"] == hostile


def test_folders_that_do_not_match_are_told_by_name(videos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "one.mp4").write_bytes(b"x")
    with pytest.raises(RequestError, match="other lacks two"):
        make_page([videos / "alpha-system", other], tmp_path / "page")
    with pytest.raises(RequestError, match="twice"):
        make_page([videos / "alpha-system", videos / "alpha-system"], tmp_path / "page")
    with pytest.raises(RequestError, match="two systems"):
        make_page([videos / "alpha-system"], tmp_path / "page")


def test_unreadable_and_huge_videos_are_all_named_and_nothing_is_left(tmp_path: Path) -> None:
    for system in ("a", "b"):
        (tmp_path / system).mkdir()
        for stem in ("x", "y"):
            tiny_clip(0).save(tmp_path / system / f"{stem}.mp4")
    (tmp_path / "a" / "x.mp4").write_bytes(b"no film at all")
    with open(tmp_path / "b" / "y.mp4", "r+b") as handle:
        handle.truncate(3 * 2**30)  # sparse: takes no room on disk
    with pytest.raises(MediaError, match=r"2 videos cannot be judged: .*x\.mp4.*y\.mp4 has 3\.0 GiB"):
        make_page([tmp_path / "a", tmp_path / "b"], tmp_path / "page")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_videos_of_different_prompts_are_refused(tmp_path: Path) -> None:
    for system in ("a", "b"):
        (tmp_path / system).mkdir()
        tiny_clip(0, prompt=f"prompt of {system}").save(tmp_path / system / "x.mp4")
    with pytest.raises(RequestError, match="different prompts: 'prompt of a' and 'prompt of b'"):
        make_page([tmp_path / "a", tmp_path / "b"], tmp_path / "page", num_checks=0)


def test_a_page_is_never_written_over_another_or_its_key(videos: Path, tmp_path: Path) -> None:
    folders = [videos / "alpha-system", videos / "beta-system"]
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").write_text("keep")
    with pytest.raises(MediaError, match="not empty"):
        make_page(folders, tmp_path / "page")
    (tmp_path / "new-key.json").write_text("{}")
    with pytest.raises(MediaError, match="key of another page"):
        make_page(folders, tmp_path / "new")
    assert (tmp_path / "page" / "mine.txt").read_text() == "keep"


# ---- votes ----

KEY = Key(
    arena="arena1",
    seed=0,
    modes=("both", "picture"),
    systems=("a", "b"),
    pairs=(
        KeyPair(id="p1", prompt="one", left="a", right="b", left_file="1.mp4", right_file="2.mp4"),
        KeyPair(id="p2", prompt="two", left="b", right="a", left_file="3.mp4", right_file="4.mp4"),
        KeyPair(id="c1", prompt="one", left="a", right="a", left_file="5.mp4", right_file="6.mp4", check="late",
                answers={"both": "left", "picture": "tie"}),
        KeyPair(id="c2", prompt="two", left="a", right="a", left_file="7.mp4", right_file="8.mp4", check="same",
                answers={"both": "tie", "picture": "tie"}),
    ),
)  # fmt: skip


def line(pair: str, vote: str, *, rater: str = "ann", mode: str = "both", arena: str = "arena1", at: str = "") -> str:
    fields = {"arena": arena, "pair": pair, "mode": mode, "rater": rater, "vote": vote, "seconds": 1.5, "voted_at": at}
    return json.dumps(fields)


def write_votes(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_votes_become_comparisons_by_the_key(tmp_path: Path) -> None:
    votes = write_votes(tmp_path / "v.jsonl", line("p1", "left"), line("p2", "tie"), line("p1", "right", mode="picture"))
    ballots = read_ballots([votes], KEY)
    assert ballots.comparisons["both"] == (
        Comparison("a", "b", "left", "one", "ann"),
        Comparison("b", "a", "tie", "two", "ann"),
    )
    assert ballots.comparisons["picture"] == (Comparison("a", "b", "right", "one", "ann"),)
    assert "sound" not in ballots.comparisons and not ballots.problems


def test_broken_lines_are_named_with_their_number_and_the_rest_counts(tmp_path: Path) -> None:
    votes = tmp_path / "v.jsonl"
    votes.write_bytes(
        b"\n".join(
            [
                line("p1", "left").encode(),  # 1
                b"",  # blank lines are no problem
                b'{"arena": "arena1", "pair"',  # 3
                b"[1, 2]",  # 4
                b"\xff\xfe\x00",  # 5
                line("p2", "both").encode(),  # 6: no such choice
                line("p9", "left").encode(),  # 7: no such pair
                line("p2", "left", arena="other").encode(),  # 8
                line("p2", "left", mode="sound").encode(),  # 9: not on this page
                line("p2", "left", rater="\x1b[31mred").encode(),  # 10
                b"[" * 9000,  # 11
                b'"' + b"x" * 50_000 + b'"',  # 12
                line("p2", "left").replace("1.5", "NaN").encode(),  # 13
                line("p2", "left").replace("seconds", "colour").encode(),  # 14
                line("p2", "right").encode(),  # 15
            ]
        )
    )
    ballots = read_ballots([votes], KEY)
    assert len(ballots.comparisons["both"]) == 2 and ballots.num_lines == 14
    assert [problem.line for problem in ballots.problems] == list(range(3, 15))
    assert str(ballots.problems[0]) == f"{votes} line 3: not JSON"
    told = " ".join(problem.what for problem in ballots.problems)
    for words in ("not a JSON object", "not UTF-8", "vote: ", "'p9'", "'other'", "'sound'", "rater: ", "longer than"):
        assert words in told


def test_a_file_without_a_vote_is_refused_with_its_first_problem(tmp_path: Path) -> None:
    votes = write_votes(tmp_path / "v.jsonl", "rubbish")
    with pytest.raises(MediaError, match=r"no vote .* line 1: not JSON"):
        read_ballots([votes], KEY)
    with pytest.raises(MediaError, match="cannot read"):
        read_ballots([tmp_path / "nothing.jsonl"], KEY)


def test_the_last_vote_of_a_rater_on_a_pair_counts(tmp_path: Path) -> None:
    late = write_votes(tmp_path / "a.jsonl", line("p1", "left", at="2026-01-02"), line("p2", "left"), line("p2", "tie"))
    early = write_votes(tmp_path / "b.jsonl", line("p1", "right", at="2026-01-01"))
    ballots = read_ballots([late, early], KEY)
    assert [one.choice for one in ballots.comparisons["both"]] == ["left", "tie"]
    assert ballots.num_replaced == 2
    assert read_ballots([late, late], KEY).comparisons == read_ballots([late], KEY).comparisons


def test_raters_are_held_against_the_checks_and_can_be_left_out(tmp_path: Path) -> None:
    votes = write_votes(
        tmp_path / "v.jsonl",
        *(line(pair, vote) for pair, vote in (("p1", "left"), ("c1", "left"), ("c2", "tie"))),
        *(line(pair, vote, rater="bob") for pair, vote in (("p1", "right"), ("c1", "right"), ("c2", "tie"))),
        line("c1", "tie", rater="bob", mode="picture"),
        line("p2", "right", rater="cy"),
        line("c1", "tie", rater="dee"),
    )
    ballots = read_ballots([votes], KEY)
    told = {one.rater: (one.num_votes, one.right, one.answered, one.is_failing) for one in ballots.raters}
    assert told == {
        "ann": (1, 2, 2, False),
        "bob": (1, 2, 3, False),
        "cy": (1, 0, 0, False),
        "dee": (0, 0, 1, True),
    }
    left = ballots.without(["bob"])
    assert [one.rater for one in left.comparisons["both"]] == ["ann", "cy"] and left.raters == ballots.raters


def test_the_key_is_found_beside_the_votes_by_its_arena(tmp_path: Path) -> None:
    votes = write_votes(tmp_path / "v.jsonl", "rubbish", line("p1", "left"))
    (tmp_path / "x-key.json").write_text("not a key")
    (tmp_path / "y-key.json").write_text(KEY.model_copy(update={"arena": "other"}).model_dump_json())
    with pytest.raises(MediaError, match="no key"):
        find_key([votes], [tmp_path])
    (tmp_path / "z-key.json").write_text(KEY.model_dump_json())
    assert find_key([votes], [tmp_path]).name == "z-key.json"
    with pytest.raises(MediaError, match="not the key"):
        read_key(tmp_path / "x-key.json")
