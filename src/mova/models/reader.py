"""The prompt reader: a small network that marks in a prompt what it says of a scene.

It reads characters, so that typing errors and unheard words break nothing. For the whole prompt it tells the kind of scene, a
second kind that is to follow, and the language; for each character the tag of the span that it belongs to, see
:mod:`mova.scenes.wording.grammar`. Every span is a piece of the prompt: what was understood can be shown.

Shape suffixes: B batch, S characters, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from mova.errors import CheckpointError
from mova.request.reading import Marked, Span

PAD, UNKNOWN, FIRST = 0, 1, 2
"""Nothing, a character that is not known, and the first known one."""
MAX_CHARACTERS = 400
"""Characters of a prompt that are read; the rest is not."""
LENGTH_STEP = 16
"""Lengths of batches are multiples of this."""
_DILATIONS = (1, 2, 4, 8, 1, 2)


class Scores(NamedTuple):
    """What the network gives.

    Args:
        kind: Logits of the kinds, ``[B, K]``.
        also: Logits of a second kind, the first entry standing for none, ``[B, K]``.
        language: Logits of the languages, ``[B, L]``.
        tag: Logits of each character's tag, the first entry standing for none, ``[B, S, 1 + T]``.
        begins: Logits of a span beginning at each character, ``[B, S]``.
    """

    kind: Tensor
    also: Tensor
    language: Tensor
    tag: Tensor
    begins: Tensor


class PromptReader(ModelMixin, ConfigMixin):
    """Dilated convolutions over characters, then attention.

    Args:
        characters: Characters that it knows.
        tags: Tags of spans.
        kinds: Kinds of scenes; the first stands for none of them.
        languages: Languages.
        width: Width of the network.
        num_layers: Attention layers.
        num_heads: Heads of each.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        characters: Sequence[str],
        tags: Sequence[str],
        kinds: Sequence[str],
        languages: Sequence[str],
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(FIRST + len(characters), width, padding_idx=PAD)
        self.near = nn.ModuleList(ConvBlock(width, dilation) for dilation in _DILATIONS)
        self.far = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, num_heads, 3 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.to_tag = nn.Linear(width, 1 + len(tags) + 1)
        self.to_whole = nn.Linear(2 * width, 2 * len(kinds) + len(languages))

    def forward(self, ids: Tensor) -> Scores:
        """Scores of prompts as ids ``[B, S]``, see :func:`spell`."""
        is_text = ids != PAD
        x = self.embed(ids)
        for block in self.near:
            x = block(x) * is_text[..., None]
        for layer in self.far:
            x = layer(x, src_key_padding_mask=~is_text)
        x = self.norm(x)
        mean = (x * is_text[..., None]).sum(dim=1) / is_text.sum(dim=1, keepdim=True)
        peak = x.masked_fill(~is_text[..., None], -torch.inf).amax(dim=1)
        num_kinds, num_languages = len(self.config.kinds), len(self.config.languages)
        kind, also, language = self.to_whole(torch.cat([mean, peak], dim=-1)).split(
            [num_kinds, num_kinds, num_languages], dim=-1
        )
        marks = self.to_tag(x)
        return Scores(kind, also, language, marks[..., :-1], marks[..., -1])


class ConvBlock(nn.Module):
    """Norm, a convolution over five characters, GELU, a linear layer that starts at zero, added to the input."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        # of two dimensions, since [B, S, D] is then channels-last as it lies in memory: twice as fast on a CPU
        self.conv = nn.Conv2d(width, width, (1, 5), padding=(0, 2 * dilation), dilation=(1, dilation))
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(self.norm(x)[:, None].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[:, 0]
        out: Tensor = x + self.out(F.gelu(h))
        return out


def spell(texts: Sequence[str], characters: Sequence[str]) -> Tensor:
    """Ids ``[B, S]`` of simplified texts; what is longer than :data:`MAX_CHARACTERS` is cut, and an empty text is a space."""
    places = {character: FIRST + index for index, character in enumerate(characters)}
    rows = [torch.tensor([places.get(one, UNKNOWN) for one in (text or " ")[:MAX_CHARACTERS]]) for text in texts]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    # few different lengths: kernels are prepared once for each
    return F.pad(ids, (0, -ids.shape[1] % LENGTH_STEP), value=PAD)


@torch.no_grad()
def mark_prompts(reader: PromptReader, texts: Sequence[str]) -> list[Marked]:
    """Find what simplified prompts say.

    Args:
        reader: Trained reader.
        texts: Prompts as :func:`mova.scenes.wording.grammar.simplify` makes them.

    Raises:
        CheckpointError: If its scores are not finite.
    """
    config = reader.config
    ids = spell(texts, config.characters).to(reader.device)
    scores = reader(ids)
    if not all(bool(score.isfinite().all()) for score in scores):
        raise CheckpointError("the prompt reader gives scores that are not finite.", "Its weights are broken: get them again.")
    kinds, alsos = (one.float().softmax(dim=-1).max(dim=-1) for one in (scores.kind, scores.also))
    languages = scores.language.argmax(dim=-1)
    tags, begins = scores.tag.float().log_softmax(dim=-1).cpu(), (scores.begins > 0).cpu()
    marked = []
    for row, text in enumerate(texts):
        kind, also = (int(one.indices[row]) for one in (kinds, alsos))
        marked.append(
            Marked(
                text=text[:MAX_CHARACTERS],
                kind=config.kinds[kind] if kind else "",
                kind_chance=float(kinds.values[row]),
                also=config.kinds[also] if also else "",
                language=config.languages[int(languages[row])],
                spans=_spans(tags[row], begins[row], len(text[:MAX_CHARACTERS]), config.tags),
            )
        )
    return marked


def _spans(tags: Tensor, begins: Tensor, length: int, names: Sequence[str]) -> tuple[Span, ...]:
    """Spans of one prompt: runs of tagged characters, parted where one begins; each has the tag that all of it is likeliest."""
    is_tagged = (tags.argmax(dim=-1) > 0).tolist()[:length]
    spans: list[Span] = []
    start = 0
    for index in range(length + 1):
        goes_on = index < length and is_tagged[index] and index > start and is_tagged[index - 1] and not bool(begins[index])
        if goes_on:
            continue
        if index > start and is_tagged[start]:
            together = tags[start:index, 1:].mean(dim=0)
            best = int(together.argmax())
            spans.append(Span(start, index, names[best], float(together[best].exp())))
        start = index
    return tuple(spans)
