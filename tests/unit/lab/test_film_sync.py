from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mova.cli import sync as command
from mova.errors import MediaError, RequestError
from mova.lab.sync.align import Seen, align
from mova.lab.sync.measure import measure, measure_clip, measure_file, read_video
from mova.lab.sync.plot import sync_plot
from mova.lab.sync.result import VideoSync, add_pairs, verdict_of, with_reading_error
from mova.media.clip import Clip
from mova.scenes.world import render, write_script
from mova.timeline import samples_in_frames

FPS, RATE = 12, 16000


def flash_times(seconds: float, seed: int) -> list[float]:
    """Irregular, on whole frames."""
    rng = np.random.default_rng(seed)
    times, time_s = [], 0.5
    while time_s < seconds - 0.4:
        times.append(round(time_s * FPS) / FPS)
        time_s += rng.uniform(0.45, 0.9)
    return times


def flashes_and_clicks(
    seconds: float = 6.0,
    *,
    seed: int = 0,
    flashes: list[float] | None = None,
    moved: Callable[[float], float] = lambda time_s: time_s,
    clicks: list[float] | None = None,
) -> Clip:
    """A lamp that is lit for two frames, and a click at ``moved`` of the time of each flash, or at given times."""
    rng = np.random.default_rng(seed)
    times = flash_times(seconds, seed) if flashes is None else flashes
    num_frames = round(seconds * FPS)
    frames = np.full((num_frames, 32, 48, 3), 40, np.uint8)
    for time_s in times:
        first = round(time_s * FPS)
        frames[first : first + 2, 8:16, 12:24] = 230
    audio = 1e-4 * rng.standard_normal(samples_in_frames(num_frames, Fraction(FPS), RATE))
    age = np.arange(RATE // 20) / RATE
    click = 0.6 * np.exp(-age / 0.006) * np.sin(2.0 * np.pi * 1500.0 * age)
    for time_s in [moved(time_s) for time_s in times] if clicks is None else clicks:
        first = round(time_s * RATE)
        room = min(click.size, audio.size - first)
        if first >= 0 and room > 0:
            audio[first : first + room] += click[:room]
    return Clip(frames, audio[None].astype(np.float32), Fraction(FPS), RATE)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """In step, through H.264 and AAC."""
    path = tmp_path / "film.mp4"
    flashes_and_clicks().save(path)
    return path


@pytest.mark.parametrize("offset_ms", [-200, -90, -20, 60, 125, 200])
def test_an_injected_offset_is_recovered_within_three_milliseconds_after_the_codecs(offset_ms: int, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    flashes_and_clicks(moved=lambda time_s: time_s + offset_ms / 1000.0).save(path)
    found = measure_file(path)
    assert found.offset_ms == pytest.approx(offset_ms, abs=3.0)
    assert found.num_events >= 7 and found.read_as == "any video"
    assert found.verdict == verdict_of(found.offset_ms)
    assert found.p_value is not None and found.p_value <= 0.01


def test_a_drift_is_found_and_the_worse_end_of_the_video_is_judged() -> None:
    found = measure_clip(flashes_and_clicks(16.0, moved=lambda time_s: time_s + 0.04 + 0.005 * time_s))
    assert found.drift_ms_per_s == pytest.approx(5.0, abs=0.3)
    low, high = found.drift_interval_ms_per_s or (0.0, 0.0)
    assert low <= 5.0 + 0.3 and high >= 5.0 - 0.3 and low > 0.0
    assert found.offset_ms == pytest.approx(80.0, abs=8.0)
    assert found.verdict == "in step"  # up to +120 ms at its end
    later = measure_clip(flashes_and_clicks(16.0, moved=lambda time_s: time_s + 0.08 + 0.005 * time_s))
    assert later.offset_ms is not None and verdict_of(later.offset_ms) == "in step"
    assert later.verdict == "noticeable" and "drifts" in later.why


def test_a_video_without_audio_events_or_without_picture_events_cannot_be_told() -> None:
    clip = flashes_and_clicks()
    silent = measure_clip(replace(clip, waveform=np.zeros_like(clip.waveform)))
    assert (silent.verdict, silent.offset_ms, silent.num_events) == ("cannot tell", None, 0)
    assert silent.why == "no onset is heard"
    still = measure_clip(replace(clip, frames=np.repeat(clip.frames[:1], clip.num_frames, axis=0)))
    assert still.verdict == "cannot tell" and "no sudden change" in still.why
    noise = np.random.default_rng(1).normal(0.0, 0.05, clip.waveform.shape).astype(np.float32)
    assert measure_clip(replace(clip, waveform=noise)).verdict == "cannot tell"


def test_a_video_of_one_frame_cannot_be_told() -> None:
    clip = flashes_and_clicks()
    one = Clip(clip.frames[:1], clip.waveform[:, : samples_in_frames(1, clip.fps, RATE)], clip.fps, RATE)
    assert measure_clip(one).verdict == "cannot tell"


def test_sounds_that_have_nothing_to_do_with_the_picture_cannot_be_told() -> None:
    told = []
    for seed in range(5):
        unrelated = sorted(np.random.default_rng(100 + seed).uniform(0.2, 5.6, 8).tolist())
        found = measure_clip(flashes_and_clicks(seed=seed, clicks=unrelated))
        told.append(found.verdict != "cannot tell")
        assert told[-1] or "unrelated" in found.why or "fit at one offset" in found.why
    assert not any(told)


def test_a_click_every_eighty_milliseconds_fits_everything_and_tells_nothing() -> None:
    clicks = np.arange(0.1, 5.8, 0.12).tolist()
    assert measure_clip(flashes_and_clicks(clicks=clicks)).verdict == "cannot tell"


def test_an_even_beat_is_measured_and_said_to_be_known_but_for_beats() -> None:
    found = measure_clip(flashes_and_clicks(flashes=[float(time_s) for time_s in range(1, 6)], moved=lambda t: t + 0.1))
    assert found.offset_ms == pytest.approx(100.0, abs=3.0)
    assert found.beat_s == pytest.approx(1.0, abs=0.01)


def test_one_missed_and_one_extra_audio_do_not_shift_the_offset() -> None:
    times = flash_times(6.0, 0)
    clicks = [time_s + 0.05 for time_s in times if time_s != times[3]] + [times[5] + 0.31]
    found = measure_clip(flashes_and_clicks(clicks=clicks))
    assert found.offset_ms == pytest.approx(50.0, abs=3.0)
    assert found.num_events == len(times) - 1


def test_a_lamp_that_goes_out_again_is_one_event() -> None:
    found = measure_clip(flashes_and_clicks())
    assert list(found.seen_s) == pytest.approx(flash_times(6.0, 0), abs=0.002)


@pytest.mark.parametrize("kind", ["ball", "piano"])
def test_a_clip_of_ours_is_read_by_what_its_prompt_says(kind: str) -> None:
    script = write_script(kind, 6, attributes={"count": 3})
    clip = replace(render(script).clip(), request={"prompt": script.caption})
    truth = measure_clip(clip)
    assert truth.read_as == kind and truth.offset_ms is not None and abs(truth.offset_ms) < 4.0
    for offset_ms in (-90, 90):
        moved = np.roll(clip.waveform, round(offset_ms * clip.sample_rate / 1000), axis=1)
        found = measure_clip(replace(clip, waveform=moved))
        assert found.offset_ms is not None
        assert found.offset_ms - truth.offset_ms == pytest.approx(offset_ms, abs=3.0)


def test_far_thunder_is_not_late_and_a_single_pair_has_no_interval_and_no_verdict() -> None:
    script = write_script("storm", 9, attributes={"distance": "far", "count": 1})
    found = measure_clip(replace(render(script).clip(), request={"prompt": script.caption}))
    assert found.offset_ms is not None and abs(found.offset_ms) < 20.0 and found.num_events == 1
    assert (found.verdict, found.is_sure, found.offset_interval_ms) == ("cannot tell", False, None)


def test_a_record_alone_gives_no_verdict() -> None:
    script = write_script("drums", 5, attributes={"count": 3})
    clip = replace(render(script).clip(), request={"prompt": script.caption})
    # three brief lights where the drums of a record are, but by the picture alone there is a still wall of noise
    rng = np.random.default_rng(4)
    noise = np.clip(clip.frames + rng.normal(0.0, 60.0, clip.frames.shape), 0, 255).astype(np.uint8)
    found = measure_clip(replace(clip, frames=noise))
    assert found.verdict == "cannot tell"
    assert measure_clip(clip, kind="drums").verdict == "in step"


def test_opposite_channels_are_heard() -> None:
    clip = flashes_and_clicks(moved=lambda time_s: time_s + 0.06)
    found = measure_clip(replace(clip, waveform=np.concatenate((clip.waveform, -clip.waveform))))
    assert found.offset_ms == pytest.approx(60.0, abs=3.0)


def test_a_kind_can_be_named_and_a_wrong_one_is_refused() -> None:
    clip = render(write_script("drums", 5, attributes={"count": 3})).clip()
    assert measure_clip(clip, kind="drums").num_events == 3
    assert measure_clip(replace(clip, request={"prompt": "drum pads are hit"}), kind="any").read_as == "any video"
    with pytest.raises(RequestError, match="there is no scene kind"):
        measure_clip(clip, kind="opera")
    silent = measure_clip(replace(clip, waveform=np.zeros_like(clip.waveform)), kind="drums")
    assert silent.why == "no drums event is heard"


def test_verdicts_follow_bt1359() -> None:
    named = {-91: "not acceptable", -46: "noticeable", -45: "in step", 125: "in step", 126: "noticeable", 186: "not acceptable"}
    assert {offset: verdict_of(offset) for offset in named} == named


def test_a_verdict_near_a_limit_is_not_sure() -> None:
    rng = np.random.default_rng(3)
    start = VideoSync("any video", 10.0, (), ())
    seen = np.arange(1.0, 9.0, 0.5)
    clear, near = (
        add_pairs(start, [(float(t), float(t + at + 0.02 * rng.standard_normal())) for t in seen]) for at in (0.04, 0.124)
    )
    assert clear.is_sure and not near.is_sure
    low, high = near.offset_interval_ms or (0.0, 0.0)
    assert low < 125.0 < high


def test_what_the_reading_may_be_off_by_is_in_the_interval_and_decides_whether_a_verdict_is_sure() -> None:
    start = VideoSync("any video", 10.0, (), ())
    pairs = {at: [(float(t), float(t) + 0.001 * at) for t in (1.0, 2.3, 4.1, 5.2)] for at in (100, 120)}
    exact = {at: add_pairs(start, pairs[at]) for at in pairs}
    assert exact[120].is_sure and exact[120].offset_interval_ms == pytest.approx((120.0, 120.0))
    found = {at: with_reading_error(exact[at], 10.0) for at in pairs}
    assert found[100].offset_interval_ms == pytest.approx((90.0, 110.0)) and found[100].is_sure
    assert found[120].offset_interval_ms == pytest.approx((110.0, 130.0)) and not found[120].is_sure
    assert (found[120].verdict, found[120].offset_ms) == (exact[120].verdict, exact[120].offset_ms)
    few = add_pairs(start, pairs[100][:2])
    assert with_reading_error(few, 10.0) == few and few.offset_interval_ms is None


def test_chance_decides_whether_trains_fit() -> None:
    rng = np.random.default_rng(5)
    seen = np.sort(rng.uniform(0.0, 20.0, 16))
    related = align([Seen(seen, 0.02)], seen + 0.15 + 0.01 * rng.standard_normal(16), seconds=20.0, num_others=99)
    assert related.p_value == pytest.approx(0.01) and related.lag_s == pytest.approx(0.15, abs=0.02)
    p_values = [
        align([Seen(seen, 0.02)], np.sort(rng.uniform(0.0, 20.0, 16)), seconds=20.0, num_others=99).p_value for _ in range(10)
    ]
    assert min(p_values) > 0.01 and max(p_values) > 0.4


def test_audio_that_begins_late_or_ends_early_is_measured_all_the_same(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    clip = flashes_and_clicks(moved=lambda time_s: time_s + 0.06)
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=FPS, options={"crf": "18"})
        picture.width, picture.height, picture.pix_fmt = 48, 32, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for frame in clip.frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode(None))
        late = RATE * 3 // 10  # the first 0.3 s hold no click and are left out
        samples = (clip.waveform[:, late : 5 * RATE] * 32767).astype(np.int16)
        block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = RATE, late, Fraction(1, RATE)
        container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    assert measure_file(path).offset_ms == pytest.approx(60.0, abs=3.0)


def test_the_command_says_it_in_words_and_in_json(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.run(video, kind=None, plot=tmp_path / "plot.png", is_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{video}  in step: the audio is ") and "ITU-R BT.1359" in lines[0]
    assert lines[1].startswith("  offset ") and "pairs from" in lines[2] and lines[3].startswith("  drift ")
    assert lines[4].startswith("  correlation of change and onsets, to 150 ms: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "plot.png"]
    command.run(video, kind=None, plot=None, is_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert abs(facts["offset_ms"]) < 3.0 and facts["verdict"] == "in step" and facts["mad_ms"] < 3.0
    assert facts["num_events"] == len(flash_times(6.0, 0)) and facts["confidence"]["is_sure"] is True
    assert len(facts["confidence"]["offset_ms"]) == 2


def test_the_command_refuses_in_the_words_that_were_typed(video: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--kind: there is no scene kind"):
        command.run(video, kind="opera", plot=None, is_json=False)
    with pytest.raises(MediaError, match=r"--plot: writes \.png"):
        command.run(video, kind=None, plot=tmp_path / "plot.jpg", is_json=False)
    with pytest.raises(MediaError, match=r"nowhere\.mp4"):
        command.run(tmp_path / "nowhere.mp4", kind=None, plot=None, is_json=False)


def test_the_plot_shows_pairs_only_where_there_are_some(video: Path) -> None:
    read = read_video(video)
    sync = measure(read)
    drawn = np.asarray(sync_plot(sync, read, title="film"))
    empty = np.asarray(sync_plot(replace(sync, pairs=(), offset_ms=None), read))
    pair_colour = np.array([255, 184, 76])
    assert drawn.shape == (560, 1200, 3)
    assert (drawn == pair_colour).all(axis=-1).sum() > 500
    assert not (empty == pair_colour).all(axis=-1).any()


def test_music_over_a_real_video_is_not_taken_for_its_audio(shared_media: Path) -> None:
    # a cat at play under a guitar: nothing that is seen begins with audio
    video = read_video(shared_media / "cat_yarn_mova_360p.mp4")
    assert measure(video).verdict == "cannot tell"
    silent = measure(video._replace(frames=video.frames[:9], waveform=video.waveform[:, :0]))
    assert "there is no audio" in silent.why
