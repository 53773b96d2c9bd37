"""Every direction on the shipped model, from files to files; few steps, as it is not beauty that is tested here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mova.cli.app import app
from mova.errors import MediaError, RequestError
from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.media.decode import read_clip, read_frames, read_waveform
from mova.media.image import fit_image, read_image
from mova.media.probe import probe
from mova.media.remux.track import read_video_track
from mova.scenes.world import render, sample_scripts

Mova = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def model() -> MOVAModel:
    return MOVAModel.from_pretrained("mova-base")


@pytest.fixture(scope="module")
def scene() -> Clip:
    rendered = render(next(iter(sample_scripts(77, 1, ["drums"]))))
    return Clip(rendered.frames, rendered.waveform, Fraction(16), 16000)


def test_a_picture_begins_the_video_and_another_ends_it(model: MOVAModel, scene: Clip) -> None:
    clip = model.generate(
        "drums", image=scene.frames[0], last_image=scene.frames[5], keyframes={1.0: scene.frames[9]}, seed=1,
        num_inference_steps=2,
    )  # fmt: skip
    assert np.array_equal(clip.frames[0], scene.frames[0])
    assert np.array_equal(clip.frames[-1], scene.frames[5])
    assert np.array_equal(clip.frames[16], scene.frames[9])
    assert clip.made_by is not None
    assert all(name.startswith("memory:") for name in clip.made_by["inputs"])


def test_a_video_is_made_to_audio_that_stays_as_it_was(model: MOVAModel, scene: Clip) -> None:
    stereo = np.repeat(scene.resampled(44100).waveform, 2, axis=0)
    clip = model.generate("drums", audio=(stereo, 44100), seed=1, num_inference_steps=2)
    assert clip.sample_rate == 44100
    assert np.array_equal(clip.waveform, stereo[:, : clip.waveform.shape[1]])
    assert clip.num_frames == 33, "the last frame, which the audio fills but for a sample, is kept"


def test_a_clip_is_extended_retaken_and_repainted_and_keeps_the_rest(model: MOVAModel, scene: Clip, tmp_path: Path) -> None:
    scene.save(tmp_path / "scene.mkv")
    source = read_clip(tmp_path / "scene.mkv")
    values = {"video": tmp_path / "scene.mkv", "seed": 1, "num_inference_steps": 2}
    longer = model.generate("drums", extend_s=1.0, **values)
    assert longer.num_frames == 33 + 16
    assert np.array_equal(longer.frames[:33], source.frames)
    earlier = model.generate("drums", extend_s=0.5, extend_at="start", **values)
    assert np.array_equal(earlier.frames[8:], source.frames)
    retaken = model.generate("drums", retake=("audio", 0.8, 1.6), **values)
    assert np.array_equal(retaken.frames, source.frames)
    assert np.array_equal(retaken.waveform[:, :12000], source.waveform[:, :12000])
    assert not np.array_equal(retaken.waveform[:, 12800:25600], source.waveform[:, 12800:25600])
    mask = np.zeros((96, 96, 3), np.uint8)
    mask[:, 48:] = 255
    painted = model.generate("drums", repaint=mask, **values)
    assert np.array_equal(painted.frames[:, :, :48], source.frames[:, :, :48])
    assert np.array_equal(painted.waveform, source.waveform)


def test_a_clip_longer_than_the_model_was_trained_for(model: MOVAModel) -> None:
    clip = model.generate(prompt="a fast metronome", num_frames=120, audio_sample_rate=48000, guidance_scale=7.5, seed=2,
                          num_inference_steps=2)  # fmt: skip
    assert clip.num_frames == 120
    assert clip.waveform.shape == (1, 360000)


def test_the_same_seed_gives_the_same_video(model: MOVAModel) -> None:
    first, second = (model.generate("rain", num_frames=33, seed=2, num_inference_steps=1) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)


def test_a_videos_audio_is_made_on_its_untouched_picture(mova: Mova, scene: Clip, tmp_path: Path) -> None:
    video = Clip(np.repeat(scene.frames, 3, axis=0), np.zeros((1, 33000), np.float32), Fraction(48), 16000)
    video.save(tmp_path / "film.mp4")
    done = mova("generate", "drums", "--video", "film.mp4", "--steps", "2", "--seed", "1", "-o", "out.mp4", "--json")
    assert done.returncode == 0, done.stderr
    info = probe(tmp_path / "out.mp4")
    assert info.video is not None
    assert info.video.fps == 48
    made = read_clip(tmp_path / "out.mp4")
    assert np.array_equal(made.frames, read_clip(tmp_path / "film.mp4").frames)
    assert float(np.abs(made.waveform).max()) > 0
    assert json.loads(done.stdout)["num_frames"] == 33


def test_a_clip_is_replayed_byte_by_byte_and_varied(mova: Mova, tmp_path: Path) -> None:
    first = mova("generate", "two hits on the drum pads", "--steps", "2", "--num-frames", "9", "--seed", "3", "-o", "a.mp4")
    assert first.returncode == 0, first.stderr
    again = mova("replay", "a.mp4")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "a-replay.mp4").read_bytes()
    other = mova("generate", "--from", "a.mp4", "--set", "guidance_scale=3", "-o", "b.mp4")
    assert other.returncode == 0, other.stderr
    request = probe(tmp_path / "b.mp4").request
    assert request is not None
    assert (request["guidance_scale"], request["seed"], request["num_inference_steps"]) == (3.0, 3, 2)
    assert not np.array_equal(read_clip(tmp_path / "a.mp4").frames, read_clip(tmp_path / "b.mp4").frames)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--image", "nosuch.png"), "nosuch.png"),
        (("--video", "film.mp4", "--image", "a.png"), "contradicts"),
        (("--retake", "audio:0.1-0.5"), "needs a clip"),
        (("--keyframe", "soon=a.png"), "--keyframe"),
        (("--extend", "end:long"), "--extend"),
        (("--set", "guidance_scale"), "--set"),
    ],
)
def test_what_contradicts_itself_is_two_lines_before_any_weight(
    mova: Mova, arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = mova("generate", "drums", *arguments, "-o", "out.mp4")
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "loaded" not in done.stderr
    assert not list(tmp_path.glob("*.mp4"))


def test_real_videos_sounds_and_pictures(mova: Mova, shared_media: Path, tmp_path: Path) -> None:
    video = ("--video", str(shared_media / "pose_silent.mp4"), "--fit", "crop", "-o", "sounded.mp4")
    audio = ("--audio", str(shared_media / "talk.wav"), "--seconds", "2", "-o", "seen.mp4")
    photo = ("--image", str(shared_media / "single_person.jpg"), "--fit", "crop", "-o", "moved.mp4")
    for arguments in (video, audio, photo):
        done = mova("generate", "a cartoon face says ah", "--steps", "1", "--seed", "1", *arguments)
        assert done.returncode == 0, done.stderr
    # the video: every packet of its picture, at its time, under audio
    source, copy = read_video_track(shared_media / "pose_silent.mp4"), read_video_track(tmp_path / "sounded.mp4")
    assert [packet.digest for packet in copy.packets] == [packet.digest for packet in source.packets]
    assert [copy.time_s(packet.pts * copy.time_base) for packet in copy.packets] == [
        source.time_s(packet.pts * source.time_base) for packet in source.packets
    ]
    assert copy.info.audio is not None
    # the audio: at its own rate, as far as AAC keeps speech
    seen, speech = read_clip(tmp_path / "seen.mp4"), read_waveform(shared_media / "talk.wav")
    assert (seen.num_frames, seen.sample_rate) == (32, speech.sample_rate)
    given, found = speech.waveform[0, : seen.waveform.shape[1]], seen.waveform[0]
    assert float(np.square(found - given).mean()) < 0.01 * float(np.square(given).mean())
    # the photo: the first frame, as far as H.264 keeps it
    photo = fit_image(read_image(shared_media / "single_person.jpg"), 96, 96, fit="crop").astype(float)
    assert np.abs(read_clip(tmp_path / "moved.mp4").frames[0] - photo).mean() < 4.0


def test_a_clip_is_rerolled_written_alone_and_has_a_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> None:
        assert CliRunner().invoke(app, ["generate", *arguments, "--on-fault", "keep"], catch_exceptions=False).exit_code == 0

    run("drums", "--steps", "1", "--seed", "3", "-o", "a.mp4", "--sidecar")
    run("--from", "a.mp4", "--reroll", "audio", "--audio-seed", "8", "-o", "b.mp4")
    run("--from", "a.mp4", "--only", "video", "-o", "c.mp4")
    document, first, second = json.loads(Path("a.json").read_text(encoding="utf-8")), read_clip("a.mp4"), read_clip("b.mp4")
    assert (document["request"], document["made_by"]) == (first.request, first.made_by)
    assert (document["file"], document["facts"]["num_frames"]) == ("a.mp4", 33)
    assert np.array_equal(first.frames, second.frames)
    assert not np.array_equal(first.waveform, second.waveform)
    assert second.request is not None
    assert (second.request["video"], second.request["audio_seed"], second.request["seed"]) == ("a.mp4", 8, 3)
    assert probe("c.mp4").audio is None
    assert np.array_equal(read_frames("c.mp4").frames, first.frames)
    with pytest.raises(MediaError, match="not the sidecar of"):
        run("drums", "--steps", "1", "-o", "a.mkv", "--sidecar")
    with pytest.raises(RequestError, match="--reroll: needs a clip"):
        run("drums", "--reroll", "audio")
