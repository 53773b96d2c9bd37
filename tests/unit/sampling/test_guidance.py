"""Guidance by text, bridge and self, of each modality, and its exact shortcuts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.checkpoints.load import Components
from mova.models.joint import JointModel
from mova.pipeline import MOVAPipeline
from mova.request.terms import TERMS
from mova.sampling.denoise import denoise
from mova.sampling.guidance import COND, PERTURBED, UNCOND, UNCOND_NO_BRIDGE, Branch, Experts, Guidance, Term
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.task import AVTensors, Task, audio_noise, video_noise

torch.manual_seed(0)
BRANCHES = (COND, UNCOND, UNCOND_NO_BRIDGE, PERTURBED)
VELOCITIES = {branch: AVTensors(torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 7)) for branch in BRANCHES}


def guided(guidance: Guidance, sigma: float = 0.5) -> AVTensors:
    """Given the needed branches only: anything else would be missing."""
    return guidance.combine({branch: VELOCITIES[branch] for branch in guidance.branches(sigma)}, sigma)


@pytest.mark.parametrize(
    ("text", "cross", "branches"),
    [
        (1.0, 1.0, (COND,)),
        (5.0, 1.0, (COND, UNCOND)),
        (0.0, 1.0, (UNCOND,)),
        (3.5, 3.5, (COND, UNCOND_NO_BRIDGE)),
        (0.0, 0.0, (UNCOND_NO_BRIDGE,)),
        (0.0, 2.0, (UNCOND, UNCOND_NO_BRIDGE)),
        (5.0, 3.5, (COND, UNCOND, UNCOND_NO_BRIDGE)),
        (5.0, 0.0, (COND, UNCOND, UNCOND_NO_BRIDGE)),
        (1.0, 3.5, (COND, UNCOND, UNCOND_NO_BRIDGE)),
    ],
)
def test_only_needed_branches_are_asked_for_and_the_result_is_the_formulas(
    text: float, cross: float, branches: tuple[Branch, ...]
) -> None:
    guidance = Guidance.from_scales(text, cross)
    assert guidance.branches(0.5) == branches
    result = guided(guidance)
    for part in (0, 1):
        none, bridge, both = (VELOCITIES[branch][part].double() for branch in (UNCOND_NO_BRIDGE, UNCOND, COND))
        expected = none + cross * (bridge - none) + text * (both - bridge)
        torch.testing.assert_close(result[part].double(), expected, rtol=0, atol=1e-5)


def test_a_cross_scale_of_one_is_plain_guidance_bit_for_bit() -> None:
    result = guided(Guidance.from_scales(5.0, 1.0))
    for part in (0, 1):
        negative, positive = VELOCITIES[UNCOND][part], VELOCITIES[COND][part]
        assert torch.equal(result[part], negative + 5.0 * (positive - negative))


def test_scales_of_one_return_the_full_branch_itself() -> None:
    assert torch.equal(guided(Guidance.from_scales(1.0)).video, VELOCITIES[COND].video)


def test_outside_its_interval_guidance_is_off() -> None:
    guidance = Guidance.from_scales(5.0, 3.5, interval=(0.2, 0.8))
    assert guidance.branches(0.9) == guidance.branches(0.1) == (COND,)
    assert len(guidance.branches(0.2)) == len(guidance.branches(0.8)) == 3
    assert torch.equal(guided(guidance, 0.9).audio, VELOCITIES[COND].audio)


def test_rescaling_brings_the_spread_of_each_sample_back() -> None:
    for part in (0, 1):
        axes = tuple(range(1, VELOCITIES[COND][part].ndim))
        wanted = VELOCITIES[COND][part].std(dim=axes)
        assert not torch.allclose(guided(Guidance.from_scales(5.0))[part].std(dim=axes), wanted, rtol=0.1)
        torch.testing.assert_close(guided(Guidance.from_scales(5.0, rescale=1.0))[part].std(dim=axes), wanted)


def test_rescaling_asks_for_the_full_branch_even_where_it_has_no_weight() -> None:
    assert Guidance.from_scales(0.0, 1.0, rescale=0.5).branches(0.5) == (COND, UNCOND)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rescale": 1.5}, "rescale"),
        ({"interval": (0.8, 0.2)}, "interval of the text term"),
        ({"interval": (0.0, 1.5)}, "interval of the text term"),
        ({"self_interval": (0.8, 0.2)}, "interval of the self term"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Guidance.from_scales(2.0, **values)


@settings(deadline=None)
@given(st.data(), st.booleans())
def test_any_list_of_terms_is_its_weighted_sum_in_evaluations_of_its_own_only(data: st.DataObject, is_dual: bool) -> None:
    branches = st.builds(Branch, st.booleans(), st.booleans(), st.booleans())
    scales = st.sampled_from([0.0, 1.0, 2.5, -1.0])
    own = data.draw(st.lists(st.builds(Term, st.just("own"), branches, branches, scales, scales), max_size=4))
    known = [replace(term, scale=data.draw(scales), audio_scale=data.draw(scales)) for term in TERMS] if is_dual else []
    guidance = Guidance((*known, *own), base=UNCOND_NO_BRIDGE if is_dual else data.draw(branches))
    generator = torch.Generator().manual_seed(0)
    velocities = {
        Branch(*flags): AVTensors(*(torch.randn(1, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2)))
        for flags in product((False, True), repeat=3)
    }
    needed = guidance.branches(0.5)
    assert len(needed) <= 1 + 2 * len(guidance.terms)
    result = guidance.combine({branch: velocities[branch] for branch in needed}, 0.5)
    for part in (0, 1):
        expected = velocities[guidance.base][part]
        for term in guidance.terms:
            difference = velocities[term.towards][part] - velocities[term.away][part]
            expected = expected + (term.scale, term.audio_scale or 0.0)[part] * difference
        torch.testing.assert_close(result[part], expected)


def test_the_self_term_leads_away_from_the_perturbed_branch() -> None:
    for text_scale, cross in ((1.0, 1.0), (3.0, 1.0), (0.0, 1.0)):
        plain, guidance = Guidance.from_scales(text_scale, cross), Guidance.from_scales(text_scale, cross, self_scale=2.0)
        assert set(guidance.branches(0.5)) == {*plain.branches(0.5), COND, PERTURBED}
        for ours, without, both, perturbed in zip(
            guided(guidance), guided(plain), VELOCITIES[COND], VELOCITIES[PERTURBED], strict=True
        ):
            assert torch.equal(ours, without + 2.0 * (both - perturbed))


def test_each_modality_has_its_scales_and_is_bit_for_bit_what_it_would_be_alone() -> None:
    guidance = Guidance.from_scales(5.0, self_scale=1.0, audio_text_scale=1.0, audio_cross_scale=2.0, audio_self_scale=0.0)
    assert guidance.branches(0.5) == (COND, UNCOND, UNCOND_NO_BRIDGE, PERTURBED)
    assert torch.equal(guided(guidance).video, guided(Guidance.from_scales(5.0, self_scale=1.0)).video)
    assert torch.equal(guided(guidance).audio, guided(Guidance.from_scales(1.0, 2.0)).audio)
    # what has no weight in the video may still have one in the audio, and only then is it evaluated
    assert Guidance.from_scales(1.0, audio_text_scale=3.0).branches(0.5) == (COND, UNCOND)
    assert torch.equal(guided(Guidance.from_scales(1.0, audio_text_scale=3.0)).video, VELOCITIES[COND].video)
    same = Guidance.from_scales(3.0, audio_text_scale=3.0, audio_self_scale=0.0)
    assert same.branches(0.5) == Guidance.from_scales(3.0).branches(0.5)


def test_each_term_has_an_interval_and_follows_the_text_s_without_one() -> None:
    spans = {"interval": (0.6, 1.0), "cross_interval": (0.0, 0.3), "self_interval": (0.4, 0.5)}
    guidance = Guidance.from_scales(5.0, 3.0, self_scale=1.0, **spans)
    assert guidance.branches(0.8) == Guidance.from_scales(5.0).branches(0.8) == (COND, UNCOND)
    assert guidance.branches(0.45) == (COND, PERTURBED)
    assert torch.equal(guided(guidance, 0.2).video, guided(Guidance.from_scales(1.0, 3.0)).video)
    assert guidance.branches(0.35) == (COND,)
    together = Guidance.from_scales(5.0, 3.0, interval=(0.6, 1.0), self_scale=1.0)
    assert together.branches(0.5) == (COND,) and len(together.branches(0.7)) == 4


def test_a_token_of_a_layer_that_attends_to_nothing_reads_itself_only(tiny_components: Components) -> None:
    model = tiny_components.transformer
    assert isinstance(model, JointModel)
    video, audio = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 6, 10)
    moved, changed = video.clone(), audio.clone()
    moved[..., :2, :2] += 1.0  # the first patch of every frame
    changed[..., 0] += 1.0

    def velocities(video: torch.Tensor, audio: torch.Tensor, layers: tuple[int, ...]) -> AVTensors:
        output = model(
            video,
            audio,
            video_timestep=torch.tensor([500.0]),
            audio_timestep=torch.tensor([500.0]),
            video_fps=16.0,
            text_embeds=torch.ones(1, 5, 32),
            bridge_scale=0.0,
            perturbed_layers=layers,
            return_dict=False,
        )
        return AVTensors(*output)

    alone, attending = (velocities(moved, changed, layers) for layers in ((0, 1), ()))
    before, usual = (velocities(video, audio, layers) for layers in ((0, 1), ()))
    assert torch.equal(alone.video[..., 2:, :], before.video[..., 2:, :])
    assert torch.equal(alone.audio[..., 1:], before.audio[..., 1:])
    assert not torch.equal(attending.video[..., 2:, :], usual.video[..., 2:, :])
    assert not torch.equal(attending.audio[..., 1:], usual.audio[..., 1:])


def run(
    components: Components, guidance: Guidance, *, other: torch.Tensor | None = None, at_once: int = 1
) -> tuple[AVTensors, int]:
    """Two steps of the loop, and how often it calls the network."""
    generator = torch.Generator().manual_seed(0)
    config = ScheduleConfig(shift=2.0, sigma_min=0.0, extra_one_step=True, snap_to_training_grid=False)
    video_schedule, audio_schedule = schedule_pair(config, 2)
    calls: list[int] = []
    hook = components.transformer.register_forward_hook(lambda *_: calls.append(1))
    result = denoise(
        Experts([components.transformer]),
        Task(torch.ones(2, 4, 4), torch.ones(10)),
        text_embeds=torch.randn(1, 5, 32, generator=generator),
        negative_embeds=torch.randn(1, 5, 32, generator=generator),
        audio_negative_embeds=other,
        video_schedule=video_schedule,
        audio_schedule=audio_schedule,
        guidance=guidance,
        video_fps=16.0,
        video_noise=video_noise(1, (4, 2, 4, 4))[None],
        audio_noise=audio_noise(1, (6, 10))[None],
        branches_per_forward=at_once,
    )
    hook.remove()
    return result, len(calls)


def test_a_self_term_of_weight_zero_costs_nothing_and_one_costs_a_pass(tiny_components: Components) -> None:
    plain, calls = run(tiny_components, Guidance.from_scales(3.0))
    off = Guidance.from_scales(3.0, self_scale=0.0, audio_self_scale=0.0, self_interval=(0.0, 0.5))
    zero, same_calls = run(tiny_components, off)
    assert calls == same_calls == 4
    assert torch.equal(zero.video, plain.video) and torch.equal(zero.audio, plain.audio)
    own, more_calls = run(tiny_components, Guidance.from_scales(3.0, self_scale=1.0))
    assert more_calls == 6
    assert not torch.equal(own.video, plain.video) and not torch.equal(own.audio, plain.audio)
    together, fewer_calls = run(tiny_components, Guidance.from_scales(3.0, self_scale=1.0), at_once=2)
    assert fewer_calls == 4
    torch.testing.assert_close(together.video, own.video, rtol=0, atol=1e-4)


def test_the_audio_can_have_a_negative_prompt_of_its_own_without_another_pass(tiny_components: Components) -> None:
    model, (ours, other) = tiny_components.transformer, torch.randn(2, 1, 5, 32)
    video, audio = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 6, 10)
    level = torch.tensor([500.0])
    values = {"video_timestep": level, "audio_timestep": level, "video_fps": 16.0, "bridge_scale": 0.0}
    mixed = model(video, audio, text_context=model.encode_text(ours, other), **values)
    assert torch.equal(mixed.video, model(video, audio, text_embeds=ours, **values).video)
    assert torch.equal(mixed.audio, model(video, audio, text_embeds=other, **values).audio)

    plain, calls = run(tiny_components, Guidance.from_scales(3.0))
    apart, same_calls = run(tiny_components, Guidance.from_scales(3.0), other=other)
    assert calls == same_calls
    assert not torch.equal(apart.audio, plain.audio)
    together, _ = run(tiny_components, Guidance.from_scales(3.0), other=other, at_once=2)
    torch.testing.assert_close(together.audio, apart.audio, rtol=0, atol=1e-4)


def test_the_pipeline_takes_the_scales_one_by_one_or_as_one_guidance(tiny_components: Components) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)
    values = {"num_frames": 5, "seed": 1, "num_inference_steps": 2, "output_type": "latent", "negative_prompt": "fog"}
    one_by_one = pipeline("rain", self_guidance_scale=1.0, audio_guidance_scale=2.0, audio_self_guidance_scale=0.0, **values)
    as_one = pipeline(
        "rain",
        guidance=Guidance.from_scales(3.0, self_scale=1.0, audio_text_scale=2.0, audio_self_scale=0.0),
        audio_negative_prompt="fog",  # the video's, said again
        **values,
    )
    assert torch.equal(one_by_one.frames, as_one.frames)
    assert torch.equal(one_by_one.audio, as_one.audio)
