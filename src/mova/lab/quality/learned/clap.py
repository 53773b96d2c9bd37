"""CLAP score: how well audio fits its prompt (Wu et al. 2023, "Large-scale contrastive language-audio pretraining")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mova.errors import CheckpointError
from mova.lab.quality.metric import Sample, Scorer, Scores, UnscorableError, audio_at, score_each


@dataclass(frozen=True)
class ClapScore:
    """Cosine of the embeddings of audio and prompt, by a folder in the form of ``laion/clap-htsat-unfused``."""

    name: str = "clap"
    version: str = "1"
    source: str = "a folder as of huggingface.co/laion/clap-htsat-unfused (config, safetensors, tokenizer, preprocessor)"
    requires: frozenset[str] = frozenset({"audio", "text"})
    of_sets: bool = False

    def load(self, weights: Path, *, device: str) -> Scorer:
        """Read model, tokenizer and feature extractor from the folder, without a network.

        Raises:
            CheckpointError: If the folder lacks a part or does not fit.
        """
        from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel

        lacks = [name for name in ("config.json", "preprocessor_config.json") if not (weights / name).is_file()]
        if lacks:
            raise CheckpointError(f"{weights} is not a CLAP folder: it lacks {', '.join(lacks)}.", f"Give {self.source}.")
        try:
            model, report = ClapModel.from_pretrained(
                weights, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True)
            extractor = AutoFeatureExtractor.from_pretrained(weights, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{weights} is not a CLAP folder: {str(error).splitlines()[0]}", f"Give {self.source}."
            ) from error
        if report["missing_keys"]:
            # transformers fills them with random numbers and goes on
            raise CheckpointError(f"{weights} lacks {min(report['missing_keys'])}.", "Download the folder again.")
        return _ClapScorer(model.to(device).eval(), tokenizer, extractor, device)


@dataclass(frozen=True, eq=False)
class _ClapScorer:
    model: Any
    tokenizer: Any
    extractor: Any
    device: str

    def __call__(self, samples: Sequence[Sample], references: Sequence[Sample]) -> Scores:
        return score_each(samples, self.score)

    @torch.inference_mode()
    def score(self, sample: Sample) -> dict[str, float]:
        """Cosine for one video, mean over pieces of 10 s if it is longer."""
        if not sample.prompt:
            raise UnscorableError("it has no prompt.")
        rate, longest = int(self.extractor.sampling_rate), int(self.extractor.nb_max_samples)
        words = self.tokenizer(sample.prompt, return_tensors="pt", truncation=True)
        cosines = []
        for piece in _pieces(audio_at(sample.clip, rate), longest):
            audio = self.extractor(piece, sampling_rate=rate, return_tensors="pt")
            output = self.model(
                input_ids=words["input_ids"].to(self.device),
                attention_mask=words["attention_mask"].to(self.device),
                input_features=audio["input_features"].to(self.device),
                is_longer=audio["is_longer"].to(self.device),
            )
            cosines.append(float(torch.cosine_similarity(output.audio_embeds, output.text_embeds).item()))
        return {"clap": sum(cosines) / len(cosines)}


def _pieces(audio: npt.NDArray[np.float32], longest: int) -> list[npt.NDArray[np.float32]]:
    """Audio in pieces that the extractor takes whole: of a longer one it would take a random part.

    A last piece of less than half of the length is left out, unless it is the only one.
    """
    pieces = [audio[start : start + longest] for start in range(0, max(audio.size, 1), longest)]
    return pieces[:-1] if len(pieces) > 1 and pieces[-1].size < longest / 2 else pieces
