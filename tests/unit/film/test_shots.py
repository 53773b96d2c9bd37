"""Shot lists: what is refused, where the cuts are, what is rendered again and what is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mova.checkpoints.load import Components
from mova.errors import MediaError, MovaError, RequestError
from mova.film.audio import film_audio, join_audio
from mova.film.cache import ShotCache, ShotClip
from mova.film.plan import FilmPlan, plan_film
from mova.film.render import render_film, shot_states
from mova.film.shots import make_film, parse_take, read_film
from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.media.health.gate import Health
from mova.pipeline import MOVAPipeline
from mova.progress import Progress

HOP = 500  # samples per audio latent of the tiny model
Planned = Callable[..., FilmPlan]
BALL, DRUMS, RAIN = (
    {"prompt": "a red ball", "num_frames": 5},
    {"prompt": "two drums", "num_frames": 5},
    {"prompt": "rain", "num_frames": 5},
)


@pytest.fixture(scope="module")
def model(tiny_components: Components) -> MOVAModel:
    return MOVAModel(MOVAPipeline.from_components(tiny_components))


@pytest.fixture
def cache(tmp_path: Path) -> ShotCache:
    return ShotCache(tmp_path / "cache")


@pytest.fixture(scope="module")
def planned(tiny_components: Components) -> Planned:
    """A film of some shots, planned for the tiny model."""

    def plan(*shots: dict[str, Any], folder: Path = Path(), **film: Any) -> FilmPlan:
        document = {"fps": 16, "num_inference_steps": 1, "guidance_scale": 1, **film, "shots": list(shots)}
        return plan_film(make_film(document, folder=folder), tiny_components.index.capabilities, model_key="tiny")

    return plan


def states(plan: FilmPlan, cache: ShotCache) -> list[str]:
    return [state.state for state in shot_states(plan, cache)]


def no_model() -> MOVAModel:
    raise AssertionError("nothing was to be rendered")


def write_audio(path: Path, num_samples: int, *, sample_rate: int = 16000, level: float = 0.5, channels: int = 1) -> None:
    """Noise as a .wav, written by the package's own encoder."""
    fps = Fraction(sample_rate, num_samples)
    waveform = np.random.default_rng(0).uniform(-level, level, (channels, num_samples)).astype(np.float32)
    Clip(np.zeros((1, 16, 16, 3), np.uint8), waveform, fps, sample_rate).save(path)


def made(plan: FilmPlan) -> list[ShotClip]:
    """Finished shots of noise, as a model would make them; shots with a lead run in over a latent."""
    rng = np.random.default_rng(1)
    result = []
    for shot in plan.shots:
        frames = rng.integers(0, 256, (shot.num_frames, 16, 16, 3), dtype=np.uint8)
        wave = rng.uniform(-0.5, 0.5, (1, shot.plan.num_samples)).astype(np.float32)
        run_in = rng.uniform(-0.5, 0.5, (1, HOP if shot.keeps_audio else 0)).astype(np.float32)
        clip = Clip(frames, wave, shot.plan.timeline.fps, shot.plan.sample_rate)
        result.append(ShotClip(clip, run_in, Health(()), (), ((shot.plan.seed, shot.plan.audio_seed),)))
    return result


# what is refused


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({"shots": [BALL, {**DRUMS, "promt": "x"}]}, "shots.2.promt", "shot 2: there is no field 'promt'.*prompt"),
        ({"shots": [BALL], "modle": "x"}, "modle", "there is no field 'modle'.*model"),
        ({"shots": [BALL], "prompt": "x"}, "prompt", "belongs to a shot"),
        ({"shots": [{**BALL, "fps": 8}]}, "shots.1.fps", "shot 1: fps belongs to the film"),
        ({"shots": [BALL, {"seconds": 1}]}, "shots.2.prompt", "shot 2: prompt is missing"),
        ({"shots": [{**BALL, "seconds": 1}]}, "shots.1.seconds", "shot 1: .*both given"),
        ({"shots": [BALL], "guidance_scale": "x"}, "guidance_scale", "^guidance_scale must be a number"),
        ({"shots": [{**BALL, "keep": ["last_frame"]}]}, "shots.1.keep", "shot 1: .*needs a shot before"),
        ({"shots": [BALL, {**DRUMS, "keep": ["lastframe"]}]}, "shots.2.keep.0", "shot 2: .*'last_frame' or 'sound'"),
        ({"shots": [BALL, {**DRUMS, "keep": "last_frame", "image": "a.png"}]}, "shots.2.keep", "conflicts with image"),
        ({"shots": [BALL, {**DRUMS, "keep": ["sound"], "audio": "a.wav"}]}, "shots.2.keep", "conflicts with audio"),
        ({"shots": [{**BALL, "retakes": ["aduio:0-1"]}]}, "shots.1.retake", "shot 1: retake: modality"),
        ({"shots": [{**BALL, "retakes": ["audio:0.2-0.1"]}]}, "shots.1.retake", "end after it begins"),
        ({"shots": [BALL], "sound": "pershot"}, "sound", "per_shot"),
        ({"shots": [BALL], "sound": {"bd": "a.wav"}}, "sound.bd", "there is no field 'bd'.*bed"),
        ({"shots": [BALL], "size": "big"}, "size", "WIDTHxHEIGHT"),
        ({"shots": [BALL], "size": "32x32", "width": 32}, "size", "both given"),
        ({"shots": []}, "shots", "1 to 1000 shots"),
        ({"shots": ["a ball"]}, "shots.1", "a shot is a mapping"),
        ([BALL], "shots", "a mapping with shots"),
    ],
)
def test_a_mistake_is_told_with_its_shot_and_field(document: Any, field: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        make_film(document)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("shots", "film", "message"),
    [
        ([BALL, {**DRUMS, "num_frames": 34}], {}, "shot 2: num_frames must be between 1 and 33"),
        (
            [BALL, {**DRUMS, "num_frames": 29, "keep": ["sound"]}],
            {},
            "shot 2: keep: .*34 frames .*tiny generates at most 33.*28",
        ),
        ([BALL, {**DRUMS, "image": "none.png"}], {}, "shot 2: .*none.png"),
        ([BALL, {**DRUMS, "keep": ["last_frame"], "keyframes": [{"time_s": 0, "image": "a.png"}]}], {}, "shot 2: .*one latent"),
        ([{**BALL, "retakes": ["audio:0.1-0.4"]}], {}, "shot 1: retake ends at 0.4 s; the shot ends at 0.3125 s"),
        ([BALL, {**DRUMS, "keep": ["sound"], "retakes": ["audio:0-0.2"]}], {}, "shot 2: .*continues"),
        ([BALL], {"sound": {"bed": "none.wav"}}, "none.wav"),
        ([BALL, DRUMS], {"sound": {"bed": "short.wav"}}, "sound.bed lasts 0.5000 s; the film lasts 0.6250 s"),
        ([BALL], {"sound": {"bed": "short.wav", "gain_db": 6.5}}, "exceeds full scale by 0.48 dB"),
        ([{**BALL, "num_frames": 1}], {"fade_ms": 40}, "fade_ms is 40"),
        ([BALL], {"size": "40x32"}, "shot 1: width must be a multiple of 16"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_rendered(
    planned: Planned, tmp_path: Path, shots: list[dict[str, Any]], film: dict[str, Any], message: str
) -> None:
    write_audio(tmp_path / "short.wav", 8000)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(MovaError, match=message):
        planned(*shots, folder=tmp_path, **film)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shots:\n- prompt: rain\n  prompt: ball\n", "line 3: 'prompt' is given twice"),
        ("shots: [\n", "line 2: expected the node content"),
        ("shots: [&a {prompt: rain}, *a]\n", "aliases"),
        ("[" * 100, "nested too deeply"),
        ("? [a]\n: b\n", "must be a scalar"),
    ],
)
def test_a_document_that_cannot_be_trusted_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "shots.yaml").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_film(tmp_path / "shots.yaml")


def test_a_shot_has_the_films_values_where_it_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shots.yaml"
    path.write_text("seed: 3\nseconds: 1\nshots:\n- prompt: rain\n- {prompt: drums, seed: 4, num_frames: 9}\n")
    film = read_film(path)
    assert film.folder == tmp_path
    assert [(shot.request.seed, shot.request.seconds, shot.request.num_frames) for shot in film.shots] == [
        (3, 1.0, None),
        (4, None, 9),
    ]


# cuts


@pytest.mark.parametrize("fps", [16, 23.976, 17, 9.7])
def test_cuts_are_exact_and_do_not_drift(planned: Planned, fps: float) -> None:
    lengths = [1, 7, 5, 3, 11, 2] * 20
    plan = planned(*({"prompt": "rain", "num_frames": length} for length in lengths), fps=fps)
    for index, shot in enumerate(plan.shots):
        before = sum(lengths[:index])
        assert shot.first_frame == before
        assert plan.start_s(shot) == before / plan.fps
        begin, end = plan.span(shot)
        assert begin == before * plan.sample_rate // plan.fps  # the sample at or before the cut, whatever came before
        assert end == (plan.span(plan.shots[index + 1])[0] if index + 1 < len(lengths) else plan.num_samples)


@pytest.mark.parametrize("fps", [16, 23.976, 17])
def test_every_shots_audio_begins_at_its_cut_to_the_sample(planned: Planned, fps: float) -> None:
    plan = planned(*({"prompt": "rain", "num_frames": length} for length in (1, 7, 5, 3, 11)), fps=fps)
    shots = made(plan)
    whole = join_audio(plan, shots)
    assert whole.shape == (1, plan.num_samples)
    for shot, clip in zip(plan.shots, shots, strict=True):
        begin, end = plan.span(shot)
        own = clip.clip.waveform
        assert 0 <= end - begin - own.shape[1] <= 1
        assert np.array_equal(whole[:, begin : begin + own.shape[1]], own)


def test_a_fade_acts_only_around_cuts_over_which_no_audio_goes_on(planned: Planned) -> None:
    plan = planned(BALL, DRUMS, {**RAIN, "keep": ["sound"]}, fade_ms=10)
    shots = made(plan)
    faded, plain = (
        join_audio(plan, shots),
        join_audio(replace(plan, film=plan.film.model_copy(update={"fade_ms": 0.0})), shots),
    )
    changed = np.flatnonzero((faded != plain)[0])
    assert changed.min() == 5000 - 160
    assert changed.max() == 5000 + 159
    assert abs(faded[0, 4999]) < 0.001
    # the end of shot 2 is what shot 3 says it is
    assert np.array_equal(faded[:, 10000 - HOP : 10000], shots[2].run_in)


def test_a_bed_lies_under_the_film_exactly_as_long_as_it(planned: Planned, tmp_path: Path) -> None:
    write_audio(tmp_path / "bed.wav", 48000, sample_rate=48000, channels=2)
    plan = planned(BALL, DRUMS, folder=tmp_path, sound={"bed": "bed.wav"})
    assert plan.sample_rate == 48000
    muted = film_audio(plan, made(plan))
    assert plan.bed is not None
    assert np.array_equal(muted, plan.bed.waveform[:, :30000])
    mixed = planned(BALL, DRUMS, folder=tmp_path, sound={"bed": "bed.wav", "gain_db": -6, "shots_gain_db": -6})
    both = film_audio(mixed, made(mixed))
    half = np.float32(10 ** (-6 / 20))
    assert np.allclose(both, half * muted + half * join_audio(mixed, made(mixed)), atol=1e-6)
    loud = planned(BALL, folder=tmp_path, sound={"bed": "bed.wav", "gain_db": 6, "shots_gain_db": 6})
    with pytest.raises(RequestError, match="exceed full scale by"):
        film_audio(loud, made(loud))


# what is rendered again


def test_an_edited_prompt_renders_that_shot_alone_and_an_undone_edit_nothing(
    planned: Planned, model: MOVAModel, cache: ShotCache, tmp_path: Path
) -> None:
    plan = planned(BALL, DRUMS, RAIN)
    assert states(plan, cache) == ["to render"] * 3
    first = render_film(plan, cache, lambda: model)
    assert states(plan, cache) == ["cached"] * 3
    edited = planned(BALL, {**DRUMS, "prompt": "two drums, then a bell"}, RAIN)
    assert states(edited, cache) == ["cached", "to render", "cached"]
    second = render_film(edited, cache, lambda: model)
    assert len(cache.files()) == 4
    assert np.array_equal(second.frames[:5], first.frames[:5])
    assert np.array_equal(second.frames[10:], first.frames[10:])
    assert not np.array_equal(second.frames[5:10], first.frames[5:10])
    # moved, dropped and undone: nothing to render, and the same bytes
    assert states(planned(RAIN, BALL, sound="per_shot"), cache) == ["cached"] * 2
    again = render_film(plan, cache, no_model)
    first.save(tmp_path / "a.mkv")
    again.save(tmp_path / "b.mkv")
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert len(cache.prune([])) == 4
    assert states(plan, cache) == ["to render"] * 3


def test_weights_and_the_content_of_files_name_a_shot_and_their_places_do_not(
    planned: Planned, model: MOVAModel, cache: ShotCache, tmp_path: Path
) -> None:
    for name, grey in (("one", 50), ("two", 50), ("other", 51)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(tmp_path / name / "a.png")
    shot = {**BALL, "image": "a.png"}
    render_film(planned(shot, folder=tmp_path / "one"), cache, lambda: model)
    assert states(planned(shot, folder=tmp_path / "two"), cache) == ["cached"]
    assert states(planned(shot, folder=tmp_path / "other"), cache) == ["to render"]
    assert states(replace(planned(shot, folder=tmp_path / "one"), model_key="trained on"), cache) == ["to render"]


def test_a_kept_frame_is_bound_to_the_shot_before_only_by_that_frame(
    planned: Planned, model: MOVAModel, cache: ShotCache
) -> None:
    follows = {**DRUMS, "keep": ["last_frame"]}
    plan = planned(BALL, follows)
    assert states(plan, cache) == ["to render", "waits"]
    film = render_film(plan, cache, lambda: model)
    assert np.array_equal(film.frames[5], film.frames[4])
    # another audio at the end of shot 1 leaves shot 2 as it is, another picture does not
    assert states(planned({**BALL, "seed": 5}, follows), cache) == ["to render", "waits"]
    retaken = planned({**BALL, "retakes": ["audio:0.2-0.3"]}, follows)
    counted: list[int] = []
    render_film(retaken, cache, lambda: model, on_progress=lambda number, *_: counted.append(number))
    assert set(counted) == {1}


def test_a_kept_audio_goes_on_over_the_cut(planned: Planned, model: MOVAModel, cache: ShotCache) -> None:
    follows = {**DRUMS, "keep": ["last_frame", "sound"]}
    alone = render_film(planned(BALL, DRUMS), cache, lambda: model)
    film = render_film(planned(BALL, follows), cache, lambda: model)
    assert film.waveform.shape == alone.waveform.shape == (1, 10000)
    assert np.array_equal(film.frames[5], film.frames[4])
    differs = np.flatnonzero((film.waveform != alone.waveform)[0])
    # shot 1 keeps its audio up to the seam of one latent before the cut
    assert 5000 - HOP <= differs.min() < 5000
    assert differs.max() > 9000
    other = render_film(planned({**BALL, "audio_seed": 9}, follows), cache, lambda: model)
    assert not np.array_equal(other.waveform[:, 5000:], film.waveform[:, 5000:])


@pytest.mark.parametrize(("take", "frames", "samples"), [("audio:0.1-0.2", (), (1600, 3200)), ("video:0.125-0.25", (2, 3), ())])
def test_a_retake_leaves_everything_else_equal_to_the_bit(
    planned: Planned, model: MOVAModel, cache: ShotCache, take: str, frames: tuple[int, ...], samples: tuple[int, ...]
) -> None:
    before = render_film(planned(BALL, DRUMS), cache, lambda: model)
    film = make_film({"fps": 16, "num_inference_steps": 1, "guidance_scale": 1, "shots": [BALL, DRUMS]})
    plan = plan_film(film.with_takes({2: (parse_take(take),)}), model.capabilities, model_key="tiny")
    assert states(plan, cache) == ["cached", "to render"]
    after = render_film(plan, cache, lambda: model)
    changed = np.flatnonzero((after.frames != before.frames).any(axis=(1, 2, 3)))
    assert changed.tolist() == [5 + frame for frame in frames]
    heard = np.flatnonzero((after.waveform != before.waveform)[0])
    assert (heard.size > 0) == bool(samples)
    if samples:  # what is given fades into the codec's copy over one latent
        assert heard.min() >= 5000 + samples[0] - HOP
        assert heard.max() < 5000 + samples[1] + HOP
    assert np.array_equal(render_film(plan, cache, no_model).waveform, after.waveform)
    other = plan_film(film.with_takes({2: (parse_take(take + ":77"),)}), model.capabilities, model_key="tiny")
    assert states(other, cache) == ["cached", "to render"]


def test_an_interrupted_run_goes_on_where_it_was(planned: Planned, model: MOVAModel, cache: ShotCache) -> None:
    def interrupt(number: int, progress: Progress) -> None:
        if number == 2:
            raise KeyboardInterrupt

    plan = planned(BALL, DRUMS)
    with pytest.raises(KeyboardInterrupt):
        render_film(plan, cache, lambda: model, on_progress=interrupt)
    assert states(plan, cache) == ["cached", "to render"]
    assert sorted(cache.folder.iterdir()) == cache.files()
    render_film(plan, cache, lambda: model)
    assert states(plan, cache) == ["cached", "cached"]


def flip(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: b"x" * 40,
        lambda data: flip(data, -1),  # of the same length, and a safetensors file still
        lambda data: flip(data, len(data) // 2),
        lambda data: data.replace(b'"seconds_taken":"3.0"', b'"seconds_taken":"9.0"'),
    ],
)
def test_a_damaged_shot_counts_as_not_there(planned: Planned, cache: ShotCache, damage: Callable[[bytes], bytes]) -> None:
    plan = planned(BALL)
    cache.store("ab", made(plan)[0], model_key="tiny", work=2.0, seconds_taken=3.0)
    assert "ab" in cache
    assert cache.pace("tiny") == 1.5
    assert cache.pace("another") is None
    path = cache.files()[0]
    path.write_bytes(damage(path.read_bytes()))
    assert "ab" not in cache
    with pytest.raises(MediaError, match="cannot be read"):
        cache.read("ab")


def test_a_damaged_shot_is_rendered_again(planned: Planned, model: MOVAModel, cache: ShotCache) -> None:
    plan = planned(BALL, DRUMS)
    before = render_film(plan, cache, lambda: model)
    for path in cache.files():
        path.write_bytes(flip(path.read_bytes(), -100))
        break
    again = ShotCache(cache.folder)
    assert sorted(states(plan, again)) == ["cached", "to render"]
    after = render_film(plan, again, lambda: model)
    assert np.array_equal(before.frames, after.frames) and np.array_equal(before.waveform, after.waveform)


def test_what_a_killed_run_was_storing_is_removed_by_the_next(planned: Planned, cache: ShotCache) -> None:
    cache.store("ab", made(planned(BALL))[0], model_key="tiny", work=2.0, seconds_taken=3.0)
    left = cache.folder / ".01234567.partial.safetensors"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    ShotCache(cache.folder)
    assert sorted(cache.folder.iterdir()) == cache.files()
