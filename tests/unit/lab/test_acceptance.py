from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mova.lab.adherence.judge import constraints_of, judge, summarise
from mova.lab.codec import compare, summarise_codec
from mova.scenes.kinds import KINDS
from mova.scenes.script import Script
from mova.scenes.world import render, sample_scripts, write_script

RATES = {"fps": 16.0, "sample_rate": 16000}


def with_caption(script: Script, caption: str) -> Script:
    return replace(script, caption=caption)


@pytest.mark.parametrize("kind", KINDS)
def test_the_renderer_s_own_clips_are_in_step_and_as_asked(kind: str) -> None:
    verdicts = []
    for script in sample_scripts(990_000, 3, [kind]):
        clip = render(script)
        verdicts.append(judge(script, clip.frames, clip.waveform, **RATES))
    summary = summarise(verdicts)
    assert summary.sync.windows["45"].f1 == 1.0
    assert summary.sync.median_abs_ms < 8.0
    assert all(mean.value == 1.0 for mean in summary.means.values())
    assert summary.means


def test_only_what_the_caption_says_is_asked_for() -> None:
    script = write_script("ball", 3, attributes={"colour": "red", "count": 3, "number": 1, "floor": "wood"})
    full = constraints_of(with_caption(script, "a small red ball bounces three times on a wooden floor"))
    assert (full.colours, full.count, full.sound) == (frozenset({"red"}), 3, "wood")
    short = constraints_of(with_caption(script, "a small ball bounces on a wooden floor"))
    assert (short.colours, short.count) == (None, None)
    assert constraints_of(with_caption(script, "three bounces of a large red ball on wood")).count == 3
    # the number of balls is no number of bounces
    pair = write_script("ball", 4, attributes={"number": 2, "count": 2})
    assert constraints_of(with_caption(pair, "two balls bounce on a wooden floor")).count is None


def test_a_sequence_that_is_spelt_out_says_the_count_too() -> None:
    script = write_script("piano", 3, attributes={"sequence": "C E G"})
    assert constraints_of(with_caption(script, "piano notes: c, e, g")).sequence == ("C", "E", "G")
    assert constraints_of(with_caption(script, "piano notes: c, e, g")).count == 3
    assert constraints_of(with_caption(script, "three notes on the piano")).sequence is None
    assert constraints_of(with_caption(script, "three notes on the piano")).count == 3


def test_the_audio_of_other_keys_is_found_out() -> None:
    script = with_caption(write_script("piano", 3, attributes={"sequence": "C E G"}), "piano notes: c, e, g")
    played = render(script)
    other = replace(script, events=tuple(replace(event, label="B") for event in script.events))
    wrong = judge(script, played.frames, render(other).waveform, **RATES).values
    assert (wrong["key_pitch"], wrong["key_asked"], wrong["sequence"], wrong["sequence_heard"]) == (0.0, 0.0, 1.0, 0.0)
    assert wrong["count"] == 1.0


def test_a_clip_with_another_number_or_colour_is_found_out() -> None:
    asked = with_caption(
        write_script("mouth", 3, attributes={"colour": "green", "count": 3, "vowel": "ah"}), "a green face says ah three times"
    )
    made = render(write_script("mouth", 3, attributes={"colour": "pink", "count": 2, "vowel": "ee"}))
    values = judge(asked, made.frames, made.waveform, **RATES).values
    assert (values["colour"], values["count"], values["count_seen"], values["count_heard"]) == (0.0, 0.0, 0.0, 0.0)
    assert values["sound"] == 0.0


def test_a_codec_that_changes_nothing_has_the_best_numbers_and_noise_lowers_them() -> None:
    script = write_script("piano", 7)
    clip = render(script)
    truth = (clip.frames, clip.waveform)
    noisy = np.clip(clip.frames + np.random.default_rng(0).normal(0, 8, clip.frames.shape), 0, 255).astype(np.uint8)
    best = summarise_codec([compare(script, truth, truth, **RATES)])
    worse = summarise_codec([compare(script, truth, (noisy, clip.waveform), **RATES)])
    assert best.psnr_db > 50.0 > worse.psnr_db > 25.0
    assert (best.heard, best.seen, best.names_right, best.heard_extra) == (1.0, 1.0, 1.0, 0.0)
    assert best.onset_error_ms < 0.5
