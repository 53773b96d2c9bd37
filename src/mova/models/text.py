"""What the networks read of a prompt: embeddings of its words, and cues, what happens when.

Embeddings (spec 3.2): cleaning, tokens, UMT5, and exact zeros beyond the end. Large and small checkpoints use the same classes,
transformers' ``UMT5EncoderModel`` and a fast tokenizer.

Cues are extra input channels of the video tower, on the video's own clock. A prompt says what happens and how often, and leaves
open when. A cue determines that: an instant and a label. Structured times beside the text are how audio generators are made to
keep number and order (Make-An-Audio 2, arXiv 2305.18474; PicoAudio, arXiv 2407.02869). Only the video tower has these channels;
they reach the audio over the bridge, as everything seen does. They are constant over the picture: one that says that cues are
given (all else 0 means that none are); one per frame of the latent, with 1 shared by the two frames nearest to the instant; and
one per label, likewise, without regard to the frame.

A cue planner, a tiny UMT5 encoder and decoder, writes a sheet of cues for a prompt, one token after the other. Many sheets fit
"three notes on the piano: C, E, G", and the planner draws one, so that the diffusion network need not decide number and order
among noise, where it is weak. Its tokens are those of the prompt's tokenizer, then one per label, then one per step of time. A
sheet is label, time, label, time and so on, then an end; times rise. What is not such a sheet is never drawn.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mova.errors import CheckpointError
from mova.request.plan import clean_prompt, too_many_tokens
from mova.timeline import frames_in_video_latents, frames_of_latent, latent_of_frame


def tokenise(tokenizer: Any, prompts: Sequence[str], max_length: int, *, truncate: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both int64 ``[B, max_length]``.

    Args:
        tokenizer: Tokenizer of the text encoder.
        prompts: Texts.
        max_length: Tokens that the model reads, the end-of-text token included.
        truncate: Cut what is too long, keeping the end-of-text token.

    Raises:
        RequestError: If a prompt has more than ``max_length`` tokens and may not be cut.
    """
    cleaned = [clean_prompt(prompt) for prompt in prompts]
    with _tokenizing:
        for prompt, ids in zip(cleaned, tokenizer(cleaned)["input_ids"], strict=True):
            if len(ids) > max_length and not truncate:
                raise too_many_tokens(prompt, len(ids), max_length)
        batch = tokenizer(cleaned, padding="max_length", truncation=truncate, max_length=max_length, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def count_tokens(tokenizer: Any, prompt: str) -> int:
    """Number of tokens of a prompt, the end-of-text token included."""
    with _tokenizing:
        return len(tokenizer(prompt)["input_ids"])


_tokenizing = threading.Lock()
"""A fast tokenizer keeps padding and truncation of the last call: two threads would take each other's."""


def encode_tokens(encoder: nn.Module, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Embeddings ``[B, S, text_dim]``; rows at and beyond the true length are exact zeros."""
    hidden: Tensor = encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
    return hidden * mask[..., None].to(hidden)


def embed_prompts(
    tokenizer: Any, encoder: nn.Module, prompts: Sequence[str], max_length: int, *, truncate: bool = False
) -> Tensor:
    """Embeddings ``[B, max_length, text_dim]`` of prompts, without gradients, on the encoder's device."""
    device = next(encoder.parameters()).device
    input_ids, mask = tokenise(tokenizer, prompts, max_length, truncate=truncate)
    with torch.no_grad():
        return encode_tokens(encoder, input_ids.to(device), mask.to(device))


Instant = tuple[float, str]
"""Seconds from the start of the video, and a label; ``""`` for none."""


def num_cue_channels(num_labels: int, *, stride: int) -> int:
    """Channels of a network that knows ``num_labels`` labels and whose codec folds ``stride`` frames into a latent."""
    return 1 + stride + num_labels


def cue_condition(
    cues: Sequence[Instant] | None, labels: Sequence[str], *, num_latents: int, fps: Fraction | float, stride: int
) -> Tensor:
    """``[1 + stride + labels, num_latents]`` float32.

    Args:
        cues: Cues in any order; ``None`` where the times of events are left open, which is not the same as no cues.
        labels: Labels that the network knows, in its order.
        num_latents: Video latents of the clip.
        fps: Frames per second.
        stride: Frames per latent; the first latent stands for one frame, which fills all of its channels.

    Raises:
        ValueError: If a label is unknown or an instant is not within the clip.
    """
    channels = torch.zeros(num_cue_channels(len(labels), stride=stride), num_latents)
    if cues is None:
        return channels
    channels[0] = 1.0
    last = frames_in_video_latents(num_latents, stride) - 1
    for time_s, label in cues:
        position = time_s * float(fps)
        if not 0.0 <= position < last + 1:
            raise ValueError(f"a cue must be within the clip of {(last + 1) / float(fps):g} s; got {time_s:g} s.")
        if label and label not in labels:
            raise ValueError(f"there is no cue {label!r}; known are {', '.join(labels)}.")
        frame, share = int(position), position - int(position)
        for near, weight in ((frame, 1.0 - share), (min(frame + 1, last), share)):
            latent = latent_of_frame(near, stride)
            place = frames_of_latent(latent, stride).index(near)
            channels[slice(1, 1 + stride) if latent == 0 else 1 + place, latent] += weight
            if label:
                channels[1 + stride + labels.index(label), latent] += weight
    return channels


END = 1
"""The end-of-text token of the tokenizers here, which ends a sheet, too."""
START = 0
MAX_CUES = 16
NUCLEUS = 0.9
"""A token is drawn from the likeliest ones that together have this chance (Holtzman et al. 2020, arXiv 1904.09751)."""
PLAN_KEY = 3
"""Tells a planner's random numbers from the noise of video and audio (``VIDEO_KEY`` 1, ``AUDIO_KEY`` 2)."""


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


@dataclass(frozen=True)
class SheetConstraints:
    """What is known of a sheet before it is drawn.

    Args:
        labels: Labels that it may have; any if empty.
        order: Its labels in order; open if empty.
        number: Number of its cues; open if None.
    """

    labels: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    number: int | None = None

    def allow(self, sheet: Sequence[Instant]) -> bool:
        """Whether a sheet is as is known."""
        labels = [label for _, label in sheet]
        return (
            (not self.labels or set(labels) <= set(self.labels))
            and (not self.order or tuple(labels) == self.order)
            and (self.number is None or len(labels) == self.number)
        )


def plan_cues(
    planner: Any,
    input_ids: Tensor,
    mask: Tensor,
    *,
    seed: int,
    before_s: float,
    constraints: SheetConstraints | None = None,
) -> list[Instant]:
    """Draw a sheet for one prompt; the same seed draws the same.

    Args:
        planner: Trained planner, see :func:`build_cue_planner`.
        input_ids: ``[S]`` tokens of the prompt.
        mask: ``[S]``.
        seed: Seed of the draw, 0 to 2^63 - 1.
        before_s: No cue is at or after this.
        constraints: What is known of the sheet. One that does not agree is drawn again among those that do.

    Raises:
        CheckpointError: If its scores are not finite.

    Returns:
        Cues in order of time, in the middle of their steps; none if the labels are ones whose times are left open. Fewer
        than the known number if there is no time for more.
    """
    draw = partial(_draw_sheet, planner, input_ids, mask, seed=seed, before_s=before_s)
    sheet, is_open = draw(SheetConstraints())
    known = set(planner.config.cue_labels)
    if constraints is None or not known.issuperset((*constraints.labels, *constraints.order)):
        return sheet
    if is_open:
        agrees = not constraints.labels or bool(set(constraints.labels) & set(planner.config.left_open))
    else:
        agrees = constraints.allow(sheet)
    return sheet if agrees else draw(constraints)[0]


@torch.no_grad()
def _draw_sheet(
    planner: Any, input_ids: Tensor, mask: Tensor, known: SheetConstraints, *, seed: int, before_s: float
) -> tuple[list[Instant], bool]:
    """A sheet of those that are allowed, and whether its times are left open."""
    config, device = planner.config, next(planner.parameters()).device
    first_label, first_time = config.text_vocab, config.text_vocab + len(config.cue_labels)
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, PLAN_KEY], dtype=np.uint64)))
    prompt = {"input_ids": input_ids[None].to(device), "attention_mask": mask[None].to(device)}
    gap = max(1, int(config.min_gap_s * config.steps_per_s))
    sheet, now, encoded = [START], -gap, None
    while len(sheet) < 2 * MAX_CUES and (len(sheet) - 1) // 2 != known.number:
        out = planner(**prompt, encoder_outputs=encoded, decoder_input_ids=torch.tensor([sheet], device=device))
        encoded = (out.encoder_last_hidden_state,)  # the prompt is read once
        logits = out.logits[0, -1].double().cpu().numpy()
        if not np.isfinite(logits).all():
            raise CheckpointError(
                "the cue planner gives scores that are not finite.", "Its weights are broken: get them again."
            )
        allowed = np.zeros(len(logits), dtype=bool)
        if len(sheet) % 2:
            wanted = known.order[len(sheet) // 2 :][:1] or known.labels or config.cue_labels
            allowed[first_label:first_time] = [label in wanted for label in config.cue_labels]
            allowed[END] = known.number is None
        else:
            steps = np.arange(len(logits) - first_time)
            allowed[first_time:] = (steps >= now + gap) & ((steps + 0.5) / config.steps_per_s < before_s)
            if known.number is not None:  # those to come need room
                rest = gap * (known.number - len(sheet) // 2)
                has_room = allowed[first_time:] & ((steps + rest + 0.5) / config.steps_per_s < before_s)
                allowed[first_time:] = has_room if has_room.any() else allowed[first_time:]
            if not allowed.any():
                break
        token = _draw(np.where(allowed, np.exp(logits - logits[allowed].max()), 0.0), rng)
        if token == END:
            break
        if len(sheet) == 1 and config.cue_labels[token - first_label] in config.left_open:
            return [], True
        sheet.append(token)
        now = token - first_time if token >= first_time else now
    pairs = zip(sheet[1::2], sheet[2::2], strict=False)
    cues = [((time - first_time + 0.5) / config.steps_per_s, config.cue_labels[label - first_label]) for label, time in pairs]
    return cues, False


def _draw(weights: NDArray[np.float64], rng: np.random.Generator) -> int:
    """One token of the nucleus, by its weight."""
    order = np.argsort(-weights, kind="stable")
    total = weights[order].cumsum()
    kept = int(np.searchsorted(total, NUCLEUS * total[-1])) + 1
    return int(order[np.searchsorted(total[:kept], rng.uniform() * total[kept - 1], side="right")])
