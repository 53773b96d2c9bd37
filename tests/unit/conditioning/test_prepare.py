"""What a request names is read, brought to the clip, put together, or refused with the nearest that can be had."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mova.checkpoints.load import Components
from mova.conditioning.prepare import Prepared, prepare
from mova.conditioning.sources import AudioInput
from mova.errors import MediaError, RequestError
from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.media.remux.track import read_video_track
from mova.pipeline import MOVAPipeline
from mova.request.plan import Capabilities
from mova.request.schema import GenerationRequest

WORLD = Capabilities(
    name="tiny", sizes=((32, 32), (48, 48)), default_size=(32, 32), fps_range=(16.0, 16.0), default_fps=16.0, max_frames=33,
    default_frames=17, sample_rate=16000, audio_hop=500,
)  # fmt: skip
GREY = np.full((32, 32, 3), 200, np.uint8)
LEFT = np.zeros((32, 32, 3), np.uint8)
LEFT[:, :16] = 255
AUDIO = AudioInput(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 96000)).astype(np.float32), 48000)
SHORT = AudioInput(AUDIO.waveform[:, :48000], 48000)
MEMORY: dict[str, Any] = {"memory:grey": GREY, "memory:left": LEFT, "memory:sound": AUDIO, "memory:short": SHORT}
SPAN = {"from_s": 0.5, "to_s": 0.75}  # frames 8 to 11


def some_clip(size: tuple[int, int] = (32, 32), num_frames: int = 17) -> Clip:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (num_frames, size[1], size[0], 3), dtype=np.uint8)
    return Clip(frames, rng.uniform(-0.5, 0.5, (1, num_frames * 1000)).astype(np.float32), Fraction(16), 16000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("films")
    some_clip().save(place / "clip.mkv")
    some_clip((64, 48)).save(place / "wide.mkv")
    replace(some_clip(), only="video").save(place / "silent.mkv")
    return place


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def prepared(**values: Any) -> Prepared:
    return prepare(GenerationRequest(prompt="rain", seed=1, **values), WORLD, MEMORY)


def keys(*times: float) -> list[dict[str, Any]]:
    return [{"time_s": time_s, "image": "memory:grey"} for time_s in times]


def kept_frames(found: Prepared) -> list[int]:
    """Frames of which every pixel is given."""
    assert found.given.keep_picture is not None
    return np.flatnonzero(found.given.keep_picture.all(axis=(1, 2))).tolist()


@pytest.mark.parametrize(
    ("values", "message", "hint", "field"),
    [
        ({"keyframes": keys(0.1875, 0.25)}, r"at 0.25 s .*that at 0.1875 s .*0.0625 to 0.3125 s", "Use 0.3125 s", "keyframes"),
        ({"keyframes": keys(0.25, 0.0625, 0.3125)}, "at 0.0625 s .*that at 0.25 s", "Use 0 s", "keyframes"),
        ({"image": "memory:grey", "keyframes": keys(0.0)}, "at 0 s .*that at 0 s .image", "Use 0.0625 s", "keyframes"),
        ({"image": "memory:grey", "last_image": "memory:grey", "num_frames": 1}, "one latent", "Leave one", "last_image"),
        ({"keyframes": keys(0.25, 0.3125), "references": ["memory:grey"]}, "0.25 to 0.5 s", "Use 0.1875 s", "keyframes"),
        ({"keyframes": keys(1.5)}, "last frame is at 1 s", "Use 1, the nearest", "keyframes"),
        ({"audio": "memory:short", "num_frames": 17}, "lasts 1.0000 s; the clip lasts 1.0625", "enough for 16 frames", "audio"),
        (
            {"video": "clip.mkv", "retake": {"modality": "audio", "from_s": 0.5, "to_s": 99.0}},
            "the clip ends at 1.0625 s",
            "Use 0.5 to 1.0625 s, the nearest.",
            "retake",
        ),
        (
            {"video": "clip.mkv", "retake": {"modality": "both", "from_s": 3.0, "to_s": 3.5}},
            "the clip ends at 1.0625 s",
            "Use 0.5625 to 1.0625 s, the nearest.",
            "retake",
        ),
        ({"video": "wide.mkv", "extend_s": 0.5}, "cannot make 64x48", "to bring it to 32x32", "video"),
        ({"video": "clip.mkv", "extend_s": 0.5, "width": 48, "height": 48}, "is 32x32; 48x48", "Ask for 32x32", "video"),
        ({"video": "silent.mkv", "retake": {"modality": "audio", **SPAN}}, "no audio of which", "Leave retake out", "retake"),
        ({"video": "clip.mkv", "repaint": "memory:left", "seconds": 0.5}, "17 frames; 8 are", "Ask for 17", "num_frames"),
        ({"video": "clip.mkv", "extend_s": 0.5, "image": "memory:grey"}, "a part of the given clip", "Leave one", "image"),
        ({"video": "clip.mkv", "extend_s": 0.5, "keyframes": keys(1.0)}, "at 1 s", "Use 1.0625 s", "keyframes"),
        ({"video": "clip.mkv", "extend_s": 1.0, "references": ["memory:grey"]}, "33 frames and 1", "at most 32", "references"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_nearest_that_can(
    values: dict[str, Any], message: str, hint: str, field: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        prepared(**values)
    assert hint in caught.value.hint
    assert caught.value.field == field


def test_what_a_refusal_names_is_taken() -> None:
    assert prepared(keyframes=keys(0.1875, 0.3125)).given.stills == (3, 5)
    assert prepared(keyframes=keys(0.1875, 0.25), references=["memory:grey"]).given.stills == (3, 4)
    assert prepared(audio="memory:short", num_frames=16).audio is not None
    assert prepared(video="clip.mkv", retake={"modality": "video", "from_s": 0.5, "to_s": 1.0625}).plan.num_frames == 17
    assert prepared(video="clip.mkv", repaint="memory:left", num_frames=17).plan.request.num_frames is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"video": "a.mp4", "audio": "b.wav"}, "audio"),
        ({"video": "a.mp4", "last_image": "b.png"}, "last_image"),
        ({"video": "a.mp4", "references": ["b.png"]}, "references"),
        ({"video": "a.mp4", "retake": {"modality": "audio", **SPAN}, "references": ["b.png"]}, "references"),
        ({"video": "a.mp4", "retake": {"modality": "audio", **SPAN}, "keyframes": keys(0.5)}, "keyframes"),
        ({"video": "a.mp4", "retake": {"modality": "both", **SPAN}, "audio": "b.wav"}, "audio"),
        ({"video": "a.mp4", "extend_s": 1.0, "seconds": 2.0}, "extend_s"),
        ({"video": "a.mp4", "repaint": "b.png", "extend_s": 1.0}, "extend_s"),
        ({"video": "a.mp4", "retake": {"modality": "both", **SPAN}, "extend_s": 1.0}, "extend_s"),
    ],
)
def test_a_contradiction_is_refused_before_any_file_is_read(values: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        GenerationRequest(prompt="rain", **values)
    assert caught.value.field == field


def test_a_clip_is_extended_to_a_last_picture_and_from_references() -> None:
    found = prepared(video="clip.mkv", extend_s=0.5, last_image="memory:grey", references=["memory:grey"])
    assert found.plan.num_frames == 25
    assert kept_frames(found) == [*range(17), 24]
    assert found.given.stills == (24,)
    led = found.with_lead
    assert led.keep_picture is not None
    assert np.flatnonzero(led.keep_picture[:, 0, 0]).tolist() == [*range(18), 25]
    earlier = prepared(video="clip.mkv", extend_s=0.5, extend_at="start", image="memory:grey")
    assert kept_frames(earlier) == [0, *range(8, 25)]


@pytest.mark.parametrize("values", [{"extend_s": 0.5}, {"repaint": "memory:left"}, {"retake": {"modality": "video", **SPAN}}])
def test_a_given_audio_takes_the_place_of_that_of_a_clip_whose_picture_is_changed(values: dict[str, Any]) -> None:
    found = prepared(video="clip.mkv", audio="memory:sound", **values)
    assert found.audio is not None
    assert found.plan.sample_rate == 48000
    assert np.array_equal(found.audio, AUDIO.waveform[:, : found.plan.num_samples])
    assert found.given.keep_audio is not None
    assert found.given.keep_audio.all()


def test_a_region_is_painted_within_a_span_of_the_picture_and_whole_beside_one_of_the_audio() -> None:
    painted = {}
    for modality in ("video", "audio", "both"):
        given = prepared(video="clip.mkv", repaint="memory:left", retake={"modality": modality, **SPAN}).given
        assert given.keep_picture is not None
        assert given.keep_audio is not None
        assert given.keep_picture[:, :, 16:].all()
        frames = np.flatnonzero(~given.keep_picture[:, 0, 0]).tolist()
        painted[modality] = frames, np.flatnonzero(~given.keep_audio).tolist()
    span, samples = list(range(8, 12)), list(range(8000, 12000))
    assert painted == {"video": (span, []), "audio": (list(range(17)), samples), "both": (span, samples)}


def test_a_picture_is_given_within_the_span_that_is_made_anew() -> None:
    found = prepared(video="clip.mkv", retake={"modality": "video", "from_s": 0.3, "to_s": 0.8}, keyframes=keys(0.5))
    assert kept_frames(found) == [*range(4), 8, *range(13, 17)]
    assert found.given.frames is not None
    assert np.array_equal(found.given.frames[8], GREY)


@pytest.mark.parametrize("values", [{"extend_s": 0.5}, {"repaint": "memory:left"}, {"retake": {"modality": "both", **SPAN}}])
def test_a_silent_video_is_changed_and_gets_a_audio(values: dict[str, Any]) -> None:
    silent, heard = (prepared(video=name, **values) for name in ("silent.mkv", "clip.mkv"))
    assert (silent.given.waveform, silent.given.keep_audio, silent.audio) == (None, None, None)
    assert kept_frames(silent) == kept_frames(heard)
    assert silent.plan.sample_rate == WORLD.sample_rate


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [None, 48])
def test_a_clip_and_a_mask_of_another_size_are_fitted_as_asked(fit: str, size: int | None) -> None:
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[:, 32:] = 255
    request = GenerationRequest(prompt="rain", video="wide.mkv", repaint="memory:mask", fit=fit, width=size, height=size)
    found = prepare(request, WORLD, {"memory:mask": mask})
    side = size or 32
    assert found.given.frames is not None
    assert found.given.keep_picture is not None
    assert found.given.frames.shape == (17, side, side, 3)
    assert found.given.keep_picture[:, side // 2, : side // 2].all()
    assert not found.given.keep_picture[:, side // 2, side // 2 :].any()
    assert (found.given.frames[:, 0] == 0).all() == (fit == "pad")


def test_a_videos_picture_goes_into_the_file_as_it_is_where_only_audio_is_made() -> None:
    span = {"modality": "audio", **SPAN}
    whole = [{}, {"num_frames": 17}, {"seconds": 1.0625}, {"retake": span}]
    assert [prepared(video="clip.mkv", **values).source_video for values in whole] == [Path("clip.mkv")] * 4
    changed = [{"seconds": 0.5}, {"retake": span | {"modality": "both"}}, {"retake": span, "repaint": "memory:left"}]
    assert [prepared(video="clip.mkv", **values).source_video for values in changed] == [None] * 3
    fit_to_canvas = prepared(video="wide.mkv", retake=span, fit="crop")
    assert (fit_to_canvas.source_video, fit_to_canvas.plan.width) == (Path("wide.mkv"), 32)


def test_a_video_of_another_shape_that_is_only_read_is_fitted_and_said_so() -> None:
    read = prepared(video="wide.mkv")
    assert read.given.frames is not None and read.given.frames.shape == (17, 32, 32, 3)
    assert (read.plan.request.fit, read.source_video) == ("pad", Path("wide.mkv"))
    assert "the video is 64x48; it is read at 32x32 with fit=pad" in " ".join(read.notes)
    assert prepared(video="clip.mkv").notes == prepared(video="wide.mkv", fit="crop").notes == ()
    with pytest.raises(MediaError, match="another aspect ratio"):  # a part of it would be shown as it was read
        prepared(video="wide.mkv", seconds=0.5)


@pytest.mark.parametrize("values", [{"audio": "5.1.mkv"}, {"video": "5.1.mkv", "retake": {"modality": "video", **SPAN}}])
def test_surround_audio_is_mixed_to_stereo_and_said(values: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    clip, channels = some_clip(), [0.1, 0.2, 0.3, 0.4, 0.0, 0.0]
    with av.open("5.1.mkv", "w") as file:
        video = file.add_stream("libx264", rate=16, width=32, height=32, pix_fmt="yuv420p")
        audio = file.add_stream("pcm_s16le", rate=16000, layout="5.1")
        for frame in clip.frames:
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        levels = np.repeat(np.array([[round(level * 32767) for level in channels]], np.int16), 17_000, axis=0)
        samples = av.AudioFrame.from_ndarray(levels.reshape(1, -1), "s16", "5.1")
        samples.sample_rate = 16000
        file.mux(audio.encode(samples))
        file.mux([*video.encode(), *audio.encode()])
    found = prepared(**values)
    assert found.audio is not None and found.audio.shape == (2, 17_000)
    np.testing.assert_allclose(found.audio[:, 9000], [0.1 + 0.3 * 0.5**0.5, 0.2 + 0.3 * 0.5**0.5], atol=1e-3)
    assert "5.1.mkv was repaired: 6 channels mixed to stereo" in caplog.text


def test_a_video_that_is_repaired_before_it_is_used_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with av.open("transparent.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=16, width=32, height=32, pix_fmt="yuva420p")
        for _ in range(17):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 4), 99, np.uint8), "rgba")))
        file.mux(stream.encode())
    prepared(video="clip.mkv")
    assert caplog.text == ""
    for values in ({}, {"extend_s": 0.5}):
        caplog.clear()
        prepared(video="transparent.mkv", **values)
        assert caplog.text.count("transparent.mkv was repaired: transparent parts shown on black") == 1


def test_a_retake_of_audio_copies_every_packet_of_the_picture(tiny_components: Components) -> None:
    model = MOVAModel(MOVAPipeline.from_components(tiny_components))
    made = model.generate("rain", video="clip.mkv", retake=("audio", 0.5, 0.75), num_inference_steps=1, seed=1)
    made.save("retaken.mkv")
    source, copy = (read_video_track(name) for name in ("clip.mkv", "retaken.mkv"))
    assert [packet.digest for packet in copy.packets] == [packet.digest for packet in source.packets]
    assert not np.array_equal(made.waveform, some_clip().waveform)
    silent = model.generate("rain", video="silent.mkv", extend_s=0.25, num_inference_steps=1, seed=1)
    assert np.array_equal(silent.frames[:17], made.frames)
    assert float(np.abs(silent.waveform).max()) > 0
