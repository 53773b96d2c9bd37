"""From a prompt to a cue sheet: a tiny UMT5 encoder and decoder that writes what happens when, one token after the other.

A prompt such as "three notes on the piano: C, E, G" leaves the times open; many sheets fit it, and the planner draws one. The
diffusion network then need not decide number and order among noise, where it is weak (:mod:`mova.models.conditions.cues`).

Tokens: those of the prompt's tokenizer, then one per label, then one per step of time. A sheet is label, time, label, time
and so on, then an end; times rise. What is not such a sheet is never drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mova.models.conditions.cues import Instant

END = 1
"""The end-of-text token of the tokenizers here, which ends a sheet, too."""
START = 0
MAX_CUES = 16
NUCLEUS = 0.9
"""A token is drawn from the likeliest ones that together have this chance (Holtzman et al. 2020, arXiv 1904.09751)."""
PLAN_KEY = 3
"""Tells a planner's random numbers from the noise of video and audio, which have 1 and 2 (:mod:`mova.sampling.noise`)."""


def build_cue_planner(
    *,
    text_vocab: int,
    labels: Sequence[str],
    seconds: float,
    steps_per_s: int,
    min_gap_s: float = 0.0,
    left_open: Sequence[str] = (),
    width: int = 128,
    num_layers: int = 2,
) -> nn.Module:
    """A planner with fresh weights.

    Args:
        text_vocab: Tokens of the prompt's tokenizer.
        labels: Labels of the cues.
        seconds: Longest clip.
        steps_per_s: Steps of time per second.
        min_gap_s: Cues are at least so far apart, within a step.
        left_open: Labels of what follows from a motion, of which no sheet is drawn: its times are the network's to find.
        width: Width of the network.
        num_layers: Layers of the encoder, and of the decoder.
    """
    from transformers import UMT5Config, UMT5ForConditionalGeneration

    num_steps = int(seconds * steps_per_s) + 1
    config = UMT5Config(
        vocab_size=text_vocab + len(labels) + num_steps,
        d_model=width,
        d_kv=32,
        d_ff=2 * width,
        num_layers=num_layers,
        num_decoder_layers=num_layers,
        num_heads=width // 32,
        dropout_rate=0.0,
        pad_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
        use_cache=False,
    )
    config.text_vocab, config.cue_labels, config.steps_per_s = text_vocab, list(labels), steps_per_s
    config.min_gap_s, config.left_open = min_gap_s, list(left_open)
    planner: nn.Module = UMT5ForConditionalGeneration(config)
    return planner


def sheet_tokens(cues: Sequence[Instant], config: Any) -> list[int]:
    """The tokens of a sheet, its end included.

    Args:
        cues: Cues in order of time, each with a label.
        config: Configuration of a planner.
    """
    first_time = config.text_vocab + len(config.cue_labels)
    tokens = []
    for time_s, label in cues:
        tokens += [config.text_vocab + config.cue_labels.index(label), first_time + int(time_s * config.steps_per_s)]
    return [*tokens, END]


@torch.no_grad()
def plan_cues(planner: Any, input_ids: Tensor, mask: Tensor, *, seed: int, before_s: float) -> list[Instant]:
    """Draw a sheet for one prompt; the same seed draws the same.

    Args:
        planner: Trained planner, see :func:`build_cue_planner`.
        input_ids: ``[S]`` tokens of the prompt.
        mask: ``[S]``.
        seed: Seed of the draw, 0 to 2^63 - 1.
        before_s: No cue is at or after this.

    Returns:
        Cues in order of time, in the middle of their steps.
    """
    config, device = planner.config, next(planner.parameters()).device
    first_label, first_time = config.text_vocab, config.text_vocab + len(config.cue_labels)
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, PLAN_KEY], dtype=np.uint64)))
    prompt = {"input_ids": input_ids[None].to(device), "attention_mask": mask[None].to(device)}
    gap = max(1, int(config.min_gap_s * config.steps_per_s))
    sheet, now, encoded = [START], -gap, None
    while len(sheet) < 2 * MAX_CUES:
        out = planner(**prompt, encoder_outputs=encoded, decoder_input_ids=torch.tensor([sheet], device=device))
        encoded = (out.encoder_last_hidden_state,)  # the prompt is read once
        logits = out.logits[0, -1].double().cpu().numpy()
        allowed = np.zeros(len(logits), dtype=bool)
        if len(sheet) % 2:
            allowed[first_label:first_time] = True
            allowed[END] = True
        else:
            steps = np.arange(len(logits) - first_time)
            allowed[first_time:] = (steps >= now + gap) & ((steps + 0.5) / config.steps_per_s < before_s)
            if not allowed.any():
                break
        token = _draw(np.where(allowed, np.exp(logits - logits[allowed].max()), 0.0), rng)
        if token == END:
            break
        if len(sheet) == 1 and config.cue_labels[token - first_label] in config.left_open:
            return []
        sheet.append(token)
        now = token - first_time if token >= first_time else now
    pairs = zip(sheet[1::2], sheet[2::2], strict=False)
    return [((time - first_time + 0.5) / config.steps_per_s, config.cue_labels[label - first_label]) for label, time in pairs]


def _draw(weights: NDArray[np.float64], rng: np.random.Generator) -> int:
    """One token of the nucleus, by its weight."""
    order = np.argsort(-weights, kind="stable")
    total = weights[order].cumsum()
    kept = int(np.searchsorted(total, NUCLEUS * total[-1])) + 1
    return int(order[np.searchsorted(total[:kept], rng.uniform() * total[kept - 1], side="right")])
