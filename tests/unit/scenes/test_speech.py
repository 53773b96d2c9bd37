"""Lips follow the words of a voice, and the same words are the same samples everywhere."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mova.cli.app import app
from mova.errors import MissingExtraError
from mova.scenes import spoken
from mova.scenes.kinds import KINDS, drawable_kinds, kind_of, speech
from mova.scenes.script import Script
from mova.scenes.spoken import VOICES, WORDS, speak
from mova.scenes.world import draw, render, sample_scripts, synthesise, write_script

RATE = 16000
DIGEST = (
    "import hashlib; from mova.scenes.spoken import VOICES, WORDS, speak\n"
    "print(hashlib.sha256(b''.join(speak(word, voice).samples.tobytes() for word in {words} for voice in VOICES)).hexdigest())"
)


def say(word: str, speaker: str = "woman", **more: str) -> Script:
    return write_script("speech", 4, seconds=2.0, attributes={"sequence": word, "speaker": speaker, **more})


def rms_per_frame(audio: np.ndarray, num_frames: int) -> np.ndarray:
    return np.array([np.sqrt(np.mean(np.square(part, dtype=np.float64))) for part in np.array_split(audio, num_frames)])


def test_words_are_the_same_samples_in_another_process_and_whatever_was_said_before() -> None:
    # the other process asks for the last word first
    backwards = WORDS[::-1]
    said = subprocess.run([sys.executable, "-c", DIGEST.format(words=backwards)], capture_output=True, text=True, check=True)
    speak("six", "man")
    own = hashlib.sha256(b"".join(speak(word, voice).samples.tobytes() for word in backwards for voice in VOICES)).hexdigest()
    assert said.stdout.strip() == own


@pytest.mark.parametrize("voice", VOICES)
def test_every_word_begins_audibly_and_is_over_before_the_next_can_begin(voice: str) -> None:
    for word in WORDS:
        found = speak(word, voice)
        start = np.sqrt(np.mean(np.square(found.samples[: round(0.03 * found.sample_rate)])))
        assert start > 0.012, word  # 24 dB below the loudest stretch
        assert 0.2 < found.seconds <= spoken.LONGEST_S < speech.GAP_S - speech.CLOSING_S
        times = [time for time, _ in found.phones]
        assert times[0] == 0.0 and times == sorted(times) and times[-1] < found.seconds
        assert {phone for _, phone in found.phones} <= set(speech.VISEMES), word


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_word_is_heard_from_its_event_on_and_its_lips_move_from_then_on(rate: int) -> None:
    script = say("yes go")
    audio = synthesise(script, sample_rate=rate, num_samples=2 * rate)[0].astype(np.float64)
    for event in script.events:
        first = round(event.time_s * rate)
        before, after = audio[first - rate // 100 : first - 2], audio[first : first + rate // 50]
        assert np.sqrt(np.mean(after**2)) > 10.0 * np.sqrt(np.mean(before**2))
        at_rest, starts, opening = speech.lips(script, event.time_s + np.array([-0.001, 0.0, speech.OPENING_S]))[0]
        assert at_rest == starts == 0.0 and opening > 0.99 * speech.FIRST_TALL


def test_the_opening_of_the_mouth_follows_the_loudness() -> None:
    found, fps = [], 30
    for script in sample_scripts(3, 12, ["speech"], seconds=4.0):
        audio = synthesise(script, sample_rate=RATE, num_samples=4 * RATE)[0]
        moments = (np.arange(4 * fps)[:, None] + np.linspace(0.0, 1.0, 9)) / fps
        opening = speech.lips(script, moments)[0].mean(axis=1)
        found.append(float(np.corrcoef(opening, rms_per_frame(audio, 4 * fps))[0, 1]))
    assert np.mean(found) > 0.85 and min(found) > 0.8


def test_lips_are_wide_for_ee_round_for_oo_open_for_ah_and_closed_for_p() -> None:
    def shape(word: str, phone: str, share: float = 0.5) -> np.ndarray:
        script, found = say(word), speak(word, "woman")
        starts = [*(time for time, _ in found.phones), found.seconds]
        index = [name for _, name in found.phones].index(phone)
        at = script.events[0].time_s + (1.0 - share) * starts[index] + share * starts[index + 1]
        return speech.lips(script, np.array([at]))[:, 0]

    ee, oo, ah, lips_closed = shape("three", "i:"), shape("two", "u:"), shape("stop", "0"), shape("stop", "p")
    assert ee[1] > 1.2 > 0.95 >= ah[1] > 0.5 > oo[1]
    assert ah[0] > 0.9 and oo[0] < 0.6 and lips_closed[0] < 0.1
    teeth, tongue = 2, 3
    assert shape("six", "s", 0.6)[teeth] == 1.0 and shape("three", "T", 0.6)[tongue] == 1.0


def test_the_shapes_of_a_mouth_are_distinguished_in_a_small_picture() -> None:
    fps, size, pictures = 120, 64, {}
    for word, after_s in (("three", 0.28), ("two", 0.18), ("five", 0.16), ("stop", 0.42)):
        script = say(word, hair="black")
        num_frames = int(script.events[0].time_s * fps) + 80
        frames = draw(script, width=size, height=size, fps=fps, num_frames=num_frames).astype(np.float64)
        pictures[word] = frames[round((script.events[0].time_s + after_s) * fps), 32:50, 18:46]
    for word, picture in pictures.items():
        others = [np.abs(picture - other).mean() for name, other in pictures.items() if name != word]
        assert min(others) > 6.0, word


def test_a_script_needs_no_voices_and_a_render_without_them_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['espeakng_loader'] = None\n"
        "from mova.errors import MissingExtraError\n"
        "from mova.scenes.world import render, write_script\n"
        "script = write_script('speech', 4); print(script.caption)\n"
        "try: render(script)\n"
        "except MissingExtraError as error: print(error); print(error.hint)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == write_script("speech", 4).caption
    assert "'espeakng-loader'" in said[1] and said[2] == 'Run: pip install "mova-av[speech]"'


def test_other_words_and_voices_are_refused() -> None:
    with pytest.raises(ValueError, match="'eleven'"):
        speak("eleven", "man")
    with pytest.raises(ValueError, match="'choir'"):
        speak("one", "choir")


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("a face says: three, yes", "speech"),
        ("a woman says no", "speech"),
        ("a girl says: no, no, go", "speech"),
        ("a boy says three words: one, two, stop", "speech"),
        ("a man says yes twice", "speech"),
        ("a face says ah three times", "mouth"),
        ("a high voice says ee", "mouth"),
        ("no voice, just drums", "drums"),
    ],
)
def test_words_that_are_said_name_the_kind(prompt: str, kind: str) -> None:
    assert kind_of(prompt) == kind


def test_without_the_package_the_kind_is_left_out_and_asking_for_it_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    spoken._all_words.cache_clear()
    try:
        assert "speech" in KINDS and "speech" not in drawable_kinds()
        done = CliRunner().invoke(
            app, ["scenes", "sheet", "-o", str(tmp_path / "all.png"), "--per-kind", "1", "--size", "32x32"]
        )
        assert done.exit_code == 0 and "speech is left out: it needs espeakng_loader" in done.output
        with pytest.raises(MissingExtraError, match="espeakng-loader"):
            render(write_script("speech", 1))
    finally:
        spoken._all_words.cache_clear()
