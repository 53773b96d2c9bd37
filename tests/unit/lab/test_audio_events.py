from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mova.errors import RequestError
from mova.lab.read.audio_events import KEYS_HZ, find_onsets, hear, nearest_key
from mova.scenes.kinds import KINDS
from mova.scenes.world import synthesise, write_script

RATE = 16000


def clicks(times_s: list[float], *, rate: int = RATE, seconds: float = 1.5) -> npt.NDArray[np.float64]:
    times = np.arange(round(seconds * rate)) / rate
    audio = 1e-4 * np.random.default_rng(0).standard_normal(times.size)
    for start in times_s:
        since = times - start
        audio += np.where(since >= 0, np.exp(-since / 0.03) * np.sin(2 * np.pi * 900 * since), 0.0)
    return 0.5 * audio


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_an_onset_is_placed_to_half_a_millisecond_at_any_rate(rate: int) -> None:
    truth = [0.2503, 0.613, 1.1007]
    found = [onset.time_s for onset in find_onsets(clicks(truth, rate=rate), rate)]
    np.testing.assert_allclose(found, truth, atol=5e-4)


def test_channels_are_heard_together() -> None:
    left, right = clicks([0.3]), clicks([0.9])
    assert len(find_onsets(np.stack((left, right)), RATE)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_silence_noise_and_a_steady_tone_have_no_events(kind: str) -> None:
    times = np.arange(2 * RATE) / RATE
    noise = 0.05 * np.random.default_rng(1).standard_normal(times.size)
    for audio in (np.zeros(times.size), noise, 0.3 * np.sin(2 * np.pi * 960 * times)):
        assert hear(audio, RATE, kind=kind) == []


@pytest.mark.parametrize("key", KEYS_HZ)
def test_a_key_is_named_by_its_pitch(key: str) -> None:
    script = write_script("piano", 3, attributes={"sequence": key})
    audio = synthesise(script, sample_rate=RATE, num_samples=33000)[0]
    assert [event.label for event in hear(audio, RATE, kind="piano")] == [key]


def test_a_key_without_its_fundamental_is_still_named() -> None:
    times = np.arange(RATE // 3) / RATE
    audio = sum(np.sin(2 * np.pi * n * KEYS_HZ["G"] * times) * 0.1 for n in (2, 3))
    assert nearest_key(np.asarray(audio), RATE) == "G"


def test_a_quieter_clip_has_the_same_events() -> None:
    script = write_script("drums", 5)
    audio = synthesise(script, sample_rate=RATE, num_samples=33000)[0]
    loud, quiet = hear(audio, RATE, kind="drums"), hear(0.25 * audio, RATE, kind="drums")
    assert [event.label for event in loud] == [event.label for event in quiet]
    np.testing.assert_allclose([e.time_s for e in loud], [e.time_s for e in quiet], atol=1e-3)


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="no scene kind 'trumpet'"):
        hear(np.zeros(RATE), RATE, kind="trumpet")
