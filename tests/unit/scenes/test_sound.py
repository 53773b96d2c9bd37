from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mova.errors import RequestError
from mova.scenes.script import Event, Script
from mova.scenes.world import synthesise

ROOM_RMS = 10 ** (-66 / 20)
PERCUSSIVE = [
    *(("ball", label) for label in ("wood", "metal", "glass", "stone")),
    *(("drums", label) for label in ("red", "yellow", "green", "blue")),
    *(("piano", label) for label in "CDEFGAB"),
    ("metronome", "tick"),
    ("fireworks", "red"),
]
ALL = [
    *PERCUSSIVE,
    *(("mouth", label) for label in ("ah", "oh", "ee")),
    *(("storm", label) for label in ("near", "far")),
    *(("siren", label) for label in ("high", "low")),
]
KEYS_HZ = {"C": 523.25, "D": 587.33, "E": 659.26, "F": 698.46, "G": 783.99, "A": 880.0, "B": 987.77}
AT = 0.30007  # between two samples at every rate used here


def hit(label: str, at: float = AT, *, x: float = 0.5, strength: float = 0.8) -> Event:
    return Event(at, at, "hit", label, (x, 0.5), strength)


def audio(
    kind: str,
    *events: Event,
    rate: int = 16000,
    seconds: float = 1.0,
    channels: int = 1,
    seed: int = 3,
    voice: str = "low",
    size: str = "large",
) -> npt.NDArray[np.float32]:
    script = Script(kind, seed, seconds, "", {"voice": voice, "size": size}, events, None)
    return synthesise(script, sample_rate=rate, num_samples=int(seconds * rate), channels=channels)


def rms(samples: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def spectrum(samples: npt.NDArray[np.float32], rate: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Power of the sound after ``AT`` and its frequencies, on a 0.25 Hz grid."""
    after = samples[int(AT * rate) :].astype(np.float64)
    return np.abs(np.fft.rfft(after, 4 * rate)) ** 2, np.fft.rfftfreq(4 * rate, 1 / rate)


def centroid_hz(kind: str, label: str, strength: float = 0.8) -> float:
    power, frequencies = spectrum(audio(kind, hit(label, strength=strength))[0], 16000)
    return float(np.sum(power * frequencies) / np.sum(power))


@pytest.mark.parametrize(("kind", "label"), PERCUSSIVE)
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_blow_is_heard_within_a_millisecond_of_its_event(kind: str, label: str, rate: int) -> None:
    samples = np.abs(audio(kind, hit(label), rate=rate)[0])
    first = int(np.flatnonzero(samples > 8 * ROOM_RMS)[0])
    assert 0.0 <= first / rate - AT < 0.001


@pytest.mark.parametrize(("kind", "label"), [(kind, label) for kind, label in ALL if kind != "siren"])
def test_nothing_of_audio_is_there_before_its_instant(kind: str, label: str) -> None:
    with_hit, without = audio(kind, hit(label))[0], audio(kind)[0]
    before = int(np.ceil(AT * 16000))
    assert np.array_equal(with_hit[:before], without[:before])
    assert not np.array_equal(with_hit[before : before + 16], without[before : before + 16])


@pytest.mark.parametrize("vowel", ["ah", "oh", "ee"])
def test_a_syllable_starts_within_two_milliseconds_and_is_over_after_180(vowel: str) -> None:
    samples = np.abs(audio("mouth", hit(vowel))[0])
    heard = np.flatnonzero(samples > 8 * ROOM_RMS) / 16000 - AT
    assert 0.0 <= heard[0] < 0.002
    assert 0.15 < heard[-1] < 0.18


def test_the_crack_of_near_thunder_is_sharp_and_far_thunder_is_softer_and_lower() -> None:
    near, far = (audio("storm", hit(label))[0] for label in ("near", "far"))
    start = int(np.ceil(AT * 16000))
    rain = rms(near[:start])
    assert rms(near[start : start + 64]) > 8 * rain
    assert rms(far[start : start + 64]) < 4 * rain
    assert rms(near[start : start + 4800]) > 1.5 * rms(far[start : start + 4800])
    assert centroid_hz("storm", "far") < 0.5 * centroid_hz("storm", "near")


@pytest.mark.parametrize(("kind", "label"), [(kind, label) for kind, label in ALL if kind != "siren"])
def test_a_stronger_event_is_louder(kind: str, label: str) -> None:
    levels = [rms(audio(kind, hit(label, strength=strength))[0]) for strength in (0.2, 0.5, 0.8, 1.0)]
    assert levels == sorted(levels)
    # 0.2 ** 1.2 is -16.8 dB; in a storm the rain hides the end of it
    assert levels[-1] > (1.5 if kind == "storm" else 5.0) * levels[0]


@pytest.mark.parametrize("material", ["wood", "metal", "glass", "stone"])
def test_a_harder_impact_is_brighter(material: str) -> None:
    assert centroid_hz("ball", material, strength=1.0) > 1.1 * centroid_hz("ball", material, strength=0.4)


@pytest.mark.parametrize(("key", "pitch_hz"), KEYS_HZ.items())
@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_piano_key_has_its_pitch(key: str, pitch_hz: float, rate: int) -> None:
    power, frequencies = spectrum(audio("piano", hit(key), rate=rate)[0], rate)
    assert frequencies[np.argmax(power)] == pytest.approx(pitch_hz, rel=0.005)


def test_materials_are_told_apart_by_brightness_and_by_how_long_they_ring() -> None:
    wood, stone, metal, glass = (centroid_hz("ball", label) for label in ("wood", "stone", "metal", "glass"))
    assert 2 * wood < stone < metal < 0.6 * glass

    def ring_s(label: str) -> float:
        samples = audio("ball", hit(label))[0][int(AT * 16000) :]
        blocks = np.sqrt(np.mean(np.square(samples[:11120].reshape(-1, 80)), axis=1))
        return float(np.flatnonzero(blocks > blocks.max() * 10**-1.5)[-1] * 0.005)

    stone_s, wood_s, glass_s, metal_s = (ring_s(label) for label in ("stone", "wood", "glass", "metal"))
    assert stone_s < 0.08 < wood_s < glass_s < metal_s <= 0.35


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("drums", "red yellow green blue"),
        ("mouth", "ah oh ee"),
        ("ball", "wood metal glass stone"),
        ("piano", "C D E"),
    ],
)
def test_labels_of_one_kind_have_different_spectra(kind: str, labels: str) -> None:
    shapes = []
    for label in labels.split():
        power, frequencies = spectrum(audio(kind, hit(label))[0], 16000)
        bands = np.add.reduceat(power, np.searchsorted(frequencies, np.geomspace(40, 7000, 40)))
        shapes.append(np.sqrt(bands / bands.sum()))
    likeness = np.array(shapes) @ np.array(shapes).T  # Bhattacharyya coefficient, 1 on the diagonal
    assert np.max(likeness - np.eye(len(shapes))) < 0.85


def test_a_high_voice_is_an_octave_above_a_low_one_and_a_small_ball_thuds_higher() -> None:
    high, low = (audio("mouth", hit("oh"), voice=voice)[0] for voice in ("high", "low"))
    for samples, pitch_hz in ((high, 240.0), (low, 115.0)):
        power, frequencies = spectrum(samples, 16000)
        harmonics = [power[np.abs(frequencies - n * pitch_hz) < 0.06 * n * pitch_hz].max() for n in (1, 2, 3)]
        between = [power[np.abs(frequencies - (n + 0.5) * pitch_hz) < 4].max() for n in (1, 2)]
        assert min(harmonics) > 3 * max(between)

    thuds_hz = []
    for size in ("small", "large"):
        power, frequencies = spectrum(audio("ball", hit("stone"), size=size)[0], 16000)
        low = (frequencies > 120) & (frequencies < 300)
        thuds_hz.append(float(np.sum(power[low] * frequencies[low]) / np.sum(power[low])))
    assert thuds_hz[0] > 1.05 * thuds_hz[1]


@pytest.mark.parametrize(("kind", "label"), PERCUSSIVE)
def test_hits_220_ms_apart_are_heard_apart(kind: str, label: str) -> None:
    samples = audio(kind, hit(label, 0.3), hit(label, 0.52))[0]
    second = int(0.52 * 16000)
    assert rms(samples[second : second + 160]) > 3 * rms(samples[second - 80 : second])


def test_a_siren_changes_its_tone_at_the_switch_and_accents_it_without_a_click() -> None:
    samples = audio("siren", hit("high", 0.3), hit("low", 0.7))[0]
    for start, tone_hz in ((0.02, 720.0), (0.4, 960.0), (0.8, 720.0)):
        part = samples[int(start * 16000) : int((start + 0.19) * 16000)]
        power = np.abs(np.fft.rfft(part * np.hanning(part.size), 64000))
        assert np.argmax(power) * 0.25 == pytest.approx(tone_hz, abs=3.0)
    assert rms(samples[4848:5008]) > 1.25 * rms(samples[4640:4800])
    assert rms(samples[6400:8000]) == pytest.approx(rms(samples[1600:4800]), rel=0.02)
    # a break of phase would be a step of up to twice the amplitude; the tone itself moves less than this
    assert np.abs(np.diff(samples)).max() < 0.25


@pytest.mark.parametrize(("kind", "label"), ALL)
def test_another_sample_rate_is_the_same_audio(kind: str, label: str) -> None:
    slow, fast = audio(kind, hit(label))[0], audio(kind, hit(label), rate=48000)[0]
    envelopes = [np.sqrt(np.mean(np.square(x.reshape(200, -1)), axis=1)) for x in (slow, fast)]
    assert np.corrcoef(*envelopes)[0, 1] > 0.98
    # what the low rate cannot hold is cut, the rest is there sample for sample (0 = 0 on both clocks)
    assert rms(slow) == pytest.approx(rms(fast), rel=0.35 if label == "yellow" else 0.1)


def test_below_the_band_edge_two_rates_agree_sample_by_sample() -> None:
    slow, fast = audio("piano", hit("C")), audio("piano", hit("C"), rate=48000)
    error = rms(fast[0, ::3] - slow[0])
    assert error < 2 * ROOM_RMS  # only the room above 7.2 kHz differs


@pytest.mark.parametrize("rate", [8000, 11025, 16001, 96000])
@pytest.mark.parametrize(("kind", "label"), [("drums", "yellow"), ("ball", "glass"), ("mouth", "ee"), ("siren", "low")])
def test_every_rate_is_served_and_nothing_folds_back(kind: str, label: str, rate: int) -> None:
    samples = audio(kind, hit(label, strength=1.0), rate=rate)[0]
    assert samples.shape == (rate,)
    assert np.abs(samples).max() > 0.02
    power, frequencies = spectrum(samples * np.hanning(samples.size).astype(np.float32), rate)
    assert power[frequencies > 0.48 * rate].sum() < 0.02 * power.sum()


@pytest.mark.parametrize(("kind", "label"), ALL)
def test_the_same_script_gives_the_same_bytes_and_another_seed_does_not(kind: str, label: str) -> None:
    events = (hit(label), hit(label, 0.61))
    assert audio(kind, *events).tobytes() == audio(kind, *events).tobytes()
    assert audio(kind, *events).tobytes() != audio(kind, *events, seed=4).tobytes()


@pytest.mark.parametrize("kind", ["drums", "storm", "siren"])
def test_a_longer_clip_begins_with_the_shorter_one(kind: str) -> None:
    label = {"drums": "green", "storm": "near", "siren": "high"}[kind]
    short, long = audio(kind, hit(label), seconds=0.4), audio(kind, hit(label), seconds=1.7)
    np.testing.assert_allclose(long[:, : short.shape[1]], short, atol=1e-6)


@pytest.mark.parametrize(("kind", "label"), ALL)
def test_levels_need_no_limiter_alone_and_stay_in_range_when_piled_up(kind: str, label: str) -> None:
    alone = audio(kind, hit(label))
    assert alone.dtype == np.float32
    assert 0.1 < np.abs(alone).max() <= 0.8
    piled = audio(kind, *(hit(label, 0.3 + 0.01 * n, strength=1.0) for n in range(8)))
    assert np.isfinite(piled).all()
    assert np.abs(piled).max() < 1.0


def test_without_events_there_is_a_faint_floor_at_its_stated_level() -> None:
    assert 20 * np.log10(rms(audio("drums"))) == pytest.approx(-66.0, abs=0.5)
    assert 20 * np.log10(rms(audio("storm"))) == pytest.approx(-45.0, abs=0.5)


def test_stereo_places_audio_with_the_power_it_has_in_mono() -> None:
    mono = audio("piano", hit("E"))
    for x in (0.0, 0.25, 0.5, 1.0):
        left, right = audio("piano", hit("E", x=x), channels=2)
        assert np.hypot(rms(left), rms(right)) == pytest.approx(rms(mono[0]), rel=0.01)
        assert rms(right) == pytest.approx(rms(mono[0]) * np.sin(np.pi * x / 2), abs=2 * ROOM_RMS)
    left, right = audio("piano", channels=2)
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.1


def test_a_siren_is_heard_where_its_place_is() -> None:
    left, right = audio("siren", hit("high", 0.3, x=0.0), hit("low", 0.7, x=1.0), channels=2)
    assert rms(left[:4000]) > 20 * rms(right[:4000])
    assert rms(right[-4000:]) > 20 * rms(left[-4000:])


def test_audio_may_start_before_the_clip_run_past_its_end_or_lie_outside() -> None:
    tail = audio("piano", hit("C", -0.1))[0]
    whole = audio("piano", hit("C", 0.2))[0]
    assert rms(tail[:800] - whole[4800:5600]) < 4 * ROOM_RMS
    assert rms(audio("drums", hit("green", 0.99995))[0, :-2]) < 2 * ROOM_RMS
    for kind, label in ALL:
        assert audio(kind, hit(label, 0.99)).shape == (1, 16000)
        if kind != "siren":
            assert audio(kind, hit(label, 5.0)).tobytes() == audio(kind).tobytes()
            assert audio(kind, hit(label, -5.0)).tobytes() == audio(kind).tobytes()


@pytest.mark.parametrize(
    ("kind", "label", "rate", "channels", "said"),
    [
        ("ball", "rubber", 16000, 1, "floor material must be one of wood, metal"),
        ("drums", "pink", 16000, 1, "drum must be one of red"),
        ("siren", "middle", 16000, 1, "siren tone must be one of high, low"),
        ("piano", "C", 4000, 1, "sample_rate"),
        ("piano", "C", 16000, 3, "channels must be 1 or 2"),
    ],
)
def test_what_has_no_audio_is_refused_by_name(kind: str, label: str, rate: int, channels: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        audio(kind, hit(label), rate=rate, channels=channels)
    with pytest.raises(RequestError, match="no scene kind 'violin'"):
        audio("violin", hit(label))
