"""A term of guidance of another package: written in one file, added to those of a request, and made by the pipeline."""

from __future__ import annotations

from dataclasses import replace

import torch

from mova.checkpoints.load import Components
from mova.pipeline import MOVAPipeline
from mova.request.terms import COND, Branch, Term, read_terms
from mova.sampling.guidance import Guidance

# away from the network that reads the prompt, but whose towers do not read each other
TOGETHER = Term("together", towards=COND, away=Branch(has_text=True, has_bridge=False), scale=1.5, interval=(0.5, 1.0))
SHORT = {"prompt": "rain", "seed": 1, "num_frames": 5, "num_inference_steps": 3, "output_type": "latent"}


def test_it_changes_the_clip_and_costs_an_evaluation_where_it_guides(tiny_components: Components) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)
    usual = read_terms({"guidance_scale": 3.0})
    sizes: list[int] = []
    hook = tiny_components.transformer.register_forward_hook(lambda model, inputs, output: sizes.append(len(inputs[0])))
    plain = pipeline(**SHORT, guidance=Guidance(usual))
    num_plain = sum(sizes)
    sizes.clear()
    with_it = pipeline(**SHORT, guidance=Guidance((*usual, TOGETHER)))
    hook.remove()
    guidance = Guidance((*usual, TOGETHER))
    sigmas = pipeline.scheduler.schedules(3)[0].sigmas[:-1]
    assert [len(guidance.branches(float(sigma))) for sigma in sigmas] == [3 if sigma >= 0.5 else 2 for sigma in sigmas]
    assert (num_plain, sum(sizes)) == (6, sum(len(guidance.branches(float(sigma))) for sigma in sigmas))
    assert not torch.equal(plain.frames, with_it.frames) and not torch.equal(plain.audio, with_it.audio)


def test_it_is_the_formula_of_its_own_evaluations(tiny_components: Components) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)
    usual = read_terms({"guidance_scale": 3.0})
    video_only = replace(TOGETHER, audio_scale=0.0, interval=(0.0, 1.0))

    class WrittenOut:
        def branches(self, sigma: float) -> tuple[Branch, ...]:
            return (*Guidance(usual).branches(sigma), TOGETHER.away)

        def combine(self, velocities, sigma):  # type: ignore[no-untyped-def]
            guided = Guidance(usual).combine(velocities, sigma)
            return guided._replace(video=guided.video + 1.5 * (velocities[COND].video - velocities[TOGETHER.away].video))

    ours = pipeline(**SHORT, guidance=Guidance((*usual, video_only)))
    theirs = pipeline(**SHORT, guidance=WrittenOut())
    torch.testing.assert_close(ours.frames, theirs.frames, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.audio, theirs.audio, rtol=0, atol=1e-4)
