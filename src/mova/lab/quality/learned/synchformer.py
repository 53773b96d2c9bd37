"""Synchformer: how far the audio of a video is from its picture, as one of 21 offsets (Iashin et al. 2024, arXiv 2401.16423).

Videos are cut into segments of 0.64 s that overlap by half. Of each, 16 frames go through a video transformer with divided
space-time attention (Patrick et al. 2021, "Keeping your eye on the ball", its ``divided`` variant), a log-mel spectrogram
through an audio spectrogram transformer (Gong et al. 2021, "AST"). One more layer with a token of its own takes the middle of
the picture and of the frequencies together, so that 8 and 6 tokens in time are left of a segment; those of all segments go
through a third transformer, whose first token says the offset.

What is verified: shapes and names of all parameters against the published code (github.com/v-iashin/Synchformer,
``configs/sync.yaml``), the audio tower against the AST of transformers, divided attention against plain attention under a
mask. What is not: the published weights were never loaded here, and no published number was made again with them.

Shape suffixes: B clips, S segments, T frames or steps in time, N patches of a frame, F bands of patches, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from mova.lab.quality.metric import load_weights

SIDE, NUM_FRAMES, NUM_MELS, NUM_STEPS, NUM_SEGMENTS, NUM_OFFSETS = 224, 16, 128, 66, 14, 21
_PATCH, _TUBE, _STRIDE = 16, 2, 10  # pixels or bands, frames, bands and steps between patches of audio
_PATCHES, _TUBES = (SIDE // _PATCH) ** 2, NUM_FRAMES // _TUBE
_BANDS, _STEPS = (NUM_MELS - _PATCH) // _STRIDE + 1, (NUM_STEPS - _PATCH) // _STRIDE + 1


@dataclass(frozen=True)
class Sizes:
    """Of the three transformers; the defaults are the published ones.

    Args:
        width: Width of every token.
        num_layers: Layers of the towers of video and audio.
        num_heads: Heads of their attention.
        num_sync_layers: Layers of the transformer over both.
        num_sync_heads: Heads of its attention.
    """

    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    num_sync_layers: int = 3
    num_sync_heads: int = 8


class Synchformer(nn.Module):
    """Says by how much video and audio are apart.

    Args:
        sizes: Smaller ones are for tests.
    """

    def __init__(self, sizes: Sizes | None = None) -> None:
        super().__init__()
        sizes = sizes if sizes is not None else Sizes()
        self.vfeat_extractor = VideoTower(sizes)
        self.afeat_extractor = AudioTower(sizes)
        self.vproj = nn.Linear(sizes.width, sizes.width)
        self.aproj = nn.Linear(sizes.width, sizes.width)
        self.transformer = SyncTransformer(sizes)

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        """``[B, 14, 16, 3, 224, 224]`` in [-1, 1] and ``[B, 14, 128, 66]`` to ``[B, 21]`` logits of offsets from -2 to 2 s."""
        batch = len(video)
        seen = self.vfeat_extractor(rearrange(video, "b s t c h w -> (b s) c t h w"))
        heard = self.afeat_extractor(rearrange(audio, "b s f t -> (b s) 1 f t"))
        seen = rearrange(self.vproj(seen), "(b s) t d -> b (s t) d", b=batch)
        heard = rearrange(self.aproj(heard), "(b s) t d -> b (s t) d", b=batch)
        logits: Tensor = self.transformer(seen, heard)
        return logits


def read_synchformer(weights: Path, *, sizes: Sizes | None = None) -> Synchformer:
    """The network with weights from a safetensors file, for evaluation.

    Args:
        weights: The file, or a folder that holds exactly one.
        sizes: What they are of.

    Raises:
        CheckpointError: If the file is pickled or broken, or its tensors do not fit.
    """
    network = load_weights(Synchformer(sizes), weights, device="cpu")
    assert isinstance(network, Synchformer)
    return network


class VideoTower(nn.Module):
    """``[B, 3, 16, 224, 224]`` to ``[B, 8, D]``: a token for every two frames."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _PATCHES, width))
        self.temp_embed = nn.Parameter(torch.zeros(1, _TUBES, width))
        # the published code has patches of single frames too and never uses them: here only so that its state dict fits
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, _PATCH, stride=_PATCH)})
        tube = (_TUBE, _PATCH, _PATCH)
        self.patch_embed_3d = nn.ModuleDict({"proj": nn.Conv3d(3, width, tube, stride=tube)})
        self.blocks = nn.ModuleList(DividedBlock(width, sizes.num_heads) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.spatial_attn_agg = PoolingLayer(width, sizes.num_heads)

    def forward(self, video: Tensor) -> Tensor:
        """A token for every two frames."""
        patches = rearrange(self.patch_embed_3d["proj"](video), "b d t h w -> b t (h w) d")
        patches = patches + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]
        first = repeat(self.cls_token + self.pos_embed[:, :1], "1 1 d -> b 1 d", b=len(video))
        for block in self.blocks:
            first, patches = block(first, patches)
        pooled = self.spatial_attn_agg.pool(rearrange(self.norm(patches), "b t n d -> (b t) n d"))
        return rearrange(pooled, "(b t) d -> b t d", b=len(video))


class DividedBlock(nn.Module):
    """Attention over time, then over space, then a perceptron: names and order as in Motionformer's ``divided`` variant."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = DividedAttention(width, num_heads)
        self.timeattn = DividedAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.norm3 = nn.LayerNorm(width, eps=1e-6)

    def forward(self, first: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 1, D]`` and ``[B, T, N, D]``, both after the block."""
        change, changes = self.timeattn(self.norm3(first), rearrange(self.norm3(patches), "b t n d -> b n t d"))
        first, patches = first + change, patches + rearrange(changes, "b n t d -> b t n d")
        change, changes = self.attn(self.norm1(first), self.norm1(patches))
        first, patches = first + change, patches + changes
        return first + self._perceptron(first), patches + self._perceptron(patches)

    def _perceptron(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
        return out


class DividedAttention(nn.Module):
    """The first token reads everything; every other one reads the first and those of its own group."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, first: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 1, D]`` and ``[B, G, L, D]``, G groups of L tokens, to what is added to them."""
        num_groups = groups.shape[1]
        tokens = torch.cat((first, rearrange(groups, "b g l d -> b (g l) d")), dim=1)
        query, key, value = (_heads(part, self.num_heads) for part in self.qkv(tokens).chunk(3, dim=-1))
        of_first = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        query, key, value = (_grouped(part, num_groups) for part in (query, key, value))
        of_rest = F.scaled_dot_product_attention(query[:, :, 1:], key, value)
        rest = self.proj(rearrange(of_rest, "(b g) h l d -> b g l (h d)", g=num_groups))
        return self.proj(rearrange(of_first, "b h 1 d -> b 1 (h d)")), rest


class PoolingLayer(nn.TransformerEncoderLayer):
    """A layer whose own first token takes all others together."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(
            width, num_heads, 4 * width, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def pool(self, tokens: Tensor) -> Tensor:
        """``[B, L, D]`` to ``[B, D]``."""
        first = repeat(self.cls_token, "1 1 d -> b 1 d", b=len(tokens))
        out: Tensor = self(torch.cat((first, tokens), dim=1))
        return out[:, 0]


class AudioTower(nn.Module):
    """``[B, 1, 128, 66]`` to ``[B, 6, D]``: a token for every 0.1 s."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.ast = SpectrogramTransformer(sizes)
        self.freq_attn_agg = PoolingLayer(sizes.width, sizes.num_heads)

    def forward(self, audio: Tensor) -> Tensor:
        """A token for every 0.1 s."""
        tokens = self.ast(audio)[:, 2:]  # without the tokens for the class and for its teacher
        pooled = self.freq_attn_agg.pool(rearrange(tokens, "b (f t) d -> (b t) f d", f=_BANDS))
        return rearrange(pooled, "(b t) d -> b t d", b=len(audio))


class SpectrogramTransformer(nn.Module):
    """``[B, 1, 128, 66]`` to ``[B, 2 + 12 x 6, D]``: patches that overlap, bands first."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = SpectrogramPatches(sizes.width)
        layers = nn.ModuleList(SpectrogramLayer(sizes.width, sizes.num_heads) for _ in range(sizes.num_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.layernorm = nn.LayerNorm(sizes.width, eps=1e-12)

    def forward(self, audio: Tensor) -> Tensor:
        """All tokens after the last layer."""
        tokens = self.embeddings(audio)
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            tokens = layer(tokens)
        out: Tensor = self.layernorm(tokens)
        return out


class SpectrogramPatches(nn.Module):
    """``[B, 1, 128, 66]`` to ``[B, 2 + 12 x 6, D]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 2 + _BANDS * _STEPS, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(1, width, _PATCH, stride=_STRIDE)})

    def forward(self, audio: Tensor) -> Tensor:
        """Patches with their places."""
        patches = rearrange(self.patch_embeddings["projection"](audio), "b d f t -> b (f t) d")
        own = repeat(torch.cat((self.cls_token, self.distillation_token), dim=1), "1 l d -> b l d", b=len(audio))
        return torch.cat((own, patches), dim=1) + self.position_embeddings


class SpectrogramLayer(nn.Module):
    """Attention and a perceptron, each after a norm."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        read = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        written = nn.ModuleDict({"dense": nn.Linear(width, width)})
        self.attention = nn.ModuleDict({"attention": read, "output": written})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(4 * width, width)})
        self.layernorm_before = nn.LayerNorm(width, eps=1e-12)
        self.layernorm_after = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, D]``."""
        read, written = self.attention["attention"], self.attention["output"]
        assert isinstance(read, nn.ModuleDict) and isinstance(written, nn.ModuleDict)
        x = x + written["dense"](_attended(self.layernorm_before(x), read, self.num_heads))
        out: Tensor = x + self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(x))))
        return out


class SyncTransformer(nn.Module):
    """``[B, 14 x 8, D]`` and ``[B, 14 x 6, D]`` to ``[B, 21]``: one sequence, with a token for the offset in front."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.vis_in_lnorm = nn.LayerNorm(width)
        self.aud_in_lnorm = nn.LayerNorm(width)
        self.OFF_tok = nn.Parameter(torch.zeros(1, 1, width))
        self.MOD_tok = nn.Parameter(torch.zeros(1, 1, width))
        places = nn.Parameter(torch.zeros(1, 2 + NUM_SEGMENTS * (_TUBES + _STEPS), width))
        self.pos_emb_cfg = nn.ParameterDict({"pos_emb": places})
        self.blocks = nn.ModuleList(SyncBlock(width, sizes.num_sync_heads) for _ in range(sizes.num_sync_layers))
        self.ln_f = nn.LayerNorm(width)
        self.off_head = nn.Linear(width, NUM_OFFSETS)

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        """Logits of offsets."""
        offset, between = (repeat(token, "1 1 d -> b 1 d", b=len(video)) for token in (self.OFF_tok, self.MOD_tok))
        x = torch.cat((offset, self.vis_in_lnorm(video), between, self.aud_in_lnorm(audio)), dim=1)
        x = x + self.pos_emb_cfg["pos_emb"]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.off_head(self.ln_f(x[:, 0]))
        return logits


class SyncBlock(nn.Module):
    """Attention and a perceptron, each after a norm."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict({name: nn.Linear(width, width) for name in ("key", "query", "value", "proj")})
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, D]``."""
        x = x + self.attn["proj"](_attended(self.ln1(x), self.attn, self.num_heads))
        out: Tensor = x + self.mlp(self.ln2(x))
        return out


def _attended(x: Tensor, layers: nn.ModuleDict, num_heads: int) -> Tensor:
    """``[B, L, D]`` what every token reads of all."""
    query, key, value = (_heads(layers[name](x), num_heads) for name in ("query", "key", "value"))
    return rearrange(F.scaled_dot_product_attention(query, key, value), "b h l d -> b l (h d)")


def _heads(x: Tensor, num_heads: int) -> Tensor:
    return rearrange(x, "b l (h d) -> b h l d", h=num_heads)


def _grouped(x: Tensor, num_groups: int) -> Tensor:
    """``[B, H, 1 + G L, D]`` to ``[B G, H, 1 + L, D]``: the first token stands before every group."""
    first = repeat(x[:, :, :1], "b h 1 d -> (b g) h 1 d", g=num_groups)
    return torch.cat((first, rearrange(x[:, :, 1:], "b h (g l) d -> (b g) h l d", g=num_groups)), dim=2)
