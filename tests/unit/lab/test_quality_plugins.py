from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mova.errors import CheckpointError
from mova.lab.quality.learned.clap import ClapScore
from mova.lab.quality.learned.desync import OFFSETS_S, DeSync, DeSyncScorer, segments
from mova.lab.quality.learned.fad import VGGish, VGGishFAD, log_mel_examples
from mova.lab.quality.learned.lse import LipSync, SyncNet, agreement, cepstra
from mova.lab.quality.metric import Sample, frame_indices
from mova.lab.quality.plugins import list_metrics, measure, weights_in, weights_sha256
from mova.media.clip import Clip
from mova.timeline import samples_in_frames


def clip_of(seconds: float, *, fps: int = 25, side: int = 48, seed: int = 0, rate: int = 16000) -> Clip:
    rng = np.random.default_rng(seed)
    num_frames = round(seconds * fps)
    frames = rng.integers(0, 256, size=(num_frames, side, side, 3), dtype=np.uint8)
    waveform = rng.uniform(-0.5, 0.5, size=(1, samples_in_frames(num_frames, Fraction(fps), rate))).astype(np.float32)
    return Clip(frames, waveform, Fraction(fps), rate)


def face(clip: Clip) -> npt.NDArray[np.float64]:
    return np.tile([0.0, 0.0, clip.width, clip.height], (clip.num_frames, 1))


def tiny_syncnet() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet(width=8, share=1 / 64)


def tiny_vggish() -> VGGish:
    torch.manual_seed(0)
    network = VGGish(width=4, channels=2, hidden=8)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)  # so that something of the audio is left after nine layers
    return network


def saved(module: nn.Module, path: Path) -> Path:
    save_file(module.state_dict(), path)
    return path


@pytest.mark.parametrize("name", sorted(list_metrics()))
def test_a_metric_without_weights_is_skipped_and_says_where_they_are(name: str) -> None:
    result = measure(list_metrics()[name], [Sample(clip_of(0.2), "a dog")])
    assert result.status == "skipped"
    assert result.reason
    assert not result.values


def test_a_path_with_nothing_there_is_skipped_too(tmp_path: Path) -> None:
    result = measure(LipSync(), [Sample(clip_of(0.2))], weights=tmp_path / "missing.safetensors")
    assert (result.status, "nothing at" in result.reason) == ("skipped", True)


def test_weights_of_another_hash_are_refused(tmp_path: Path) -> None:
    path = saved(tiny_syncnet(), tmp_path / "lse.safetensors")
    clip = clip_of(0.6)
    metric, samples = LipSync(network=tiny_syncnet()), [Sample(clip, face=face(clip))]
    with pytest.raises(CheckpointError, match="sha256"):
        measure(metric, samples, weights=path, sha256="0" * 64)
    result = measure(metric, samples, weights=path, sha256=weights_sha256(path).upper())
    assert (result.status, result.weights_sha256) == ("ok", weights_sha256(path))


def test_the_hash_of_a_folder_changes_with_a_name_and_with_a_byte(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("x" if name != "b" else "y")).write_bytes(content)
    assert len({weights_sha256(tmp_path / name) for name in "abc"}) == 3


def test_pickled_and_foreign_weights_fail_with_what_to_do(tmp_path: Path) -> None:
    clip = clip_of(0.6)
    samples = [Sample(clip, face=face(clip))]
    pickled = tmp_path / "lse.pth"
    torch.save(tiny_syncnet().state_dict(), pickled)
    result = measure(LipSync(), samples, weights=pickled)
    assert (result.status, "safetensors" in result.reason) == ("failed", True)
    result = measure(LipSync(), samples, weights=saved(nn.Linear(2, 2), tmp_path / "other.safetensors"))
    assert (result.status, "does not hold the weights of SyncNet" in result.reason) == ("failed", True)


def test_weights_are_found_by_the_name_of_their_metric(tmp_path: Path) -> None:
    (tmp_path / "clap").mkdir()
    saved(tiny_syncnet(), tmp_path / "lse.safetensors")
    assert weights_in(tmp_path) == {"clap": tmp_path / "clap", "lse": tmp_path / "lse.safetensors"}
    assert weights_in(tmp_path / "missing") == {}


def test_videos_that_cannot_be_scored_are_counted_and_not_scored_as_nought(tmp_path: Path) -> None:
    clip, short = clip_of(0.8), clip_of(0.12)
    samples = [Sample(clip, face=face(clip)), Sample(clip), Sample(short, face=face(short))]
    path = saved(tiny_syncnet(), tmp_path / "lse.safetensors")
    result = measure(LipSync(network=tiny_syncnet()), samples, weights=path)
    alone = measure(LipSync(network=tiny_syncnet()), samples[:1], weights=path)
    assert (result.status, result.num_scored, result.num_failed) == ("ok", 1, 2)
    assert result.values == alone.values
    assert result.reason.startswith("2 of 3 could not be scored")
    assert set(result.as_dict()) >= {"status", "values", "num_failed", "weights_sha256"}


def test_the_published_syncnet_has_the_published_shapes() -> None:
    with torch.device("meta"):
        network = SyncNet()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["netcnnaud.0.weight"] == (64, 1, 3, 3)
    assert shapes["netcnnlip.0.weight"] == (96, 3, 5, 7, 7)
    assert shapes["netcnnaud.18.weight"] == (512, 256, 5, 4)
    assert shapes["netcnnlip.18.weight"] == (512, 256, 1, 6, 6)
    assert shapes["netfcaud.3.weight"] == shapes["netfclip.3.weight"] == (1024, 512)
    tiny = tiny_syncnet().eval()
    assert tiny.lips(torch.zeros(2, 3, 5, 224, 224)).shape == tiny.speech(torch.zeros(2, 1, 13, 20)).shape == (2, 8)


@pytest.mark.parametrize("late", [-7, 0, 4])
def test_lse_finds_the_shift_of_speech_and_is_blind_to_it(late: int) -> None:
    lips = torch.randn(80, 16, generator=torch.Generator().manual_seed(0))
    found = agreement(lips, torch.roll(lips, late, dims=0))
    assert found.offset_frames == late
    # what was turned round at the ends does not match
    assert found.distance < 0.25 * found.confidence if late else found.distance < 1e-4
    assert found.confidence > 3.0


def test_cepstra_have_a_step_of_ten_milliseconds_and_the_energy_first() -> None:
    quiet = 0.01 * np.random.default_rng(0).standard_normal(16000)
    one, two = cepstra(quiet), cepstra(10.0 * quiet)
    assert one.shape == (13, 99)
    np.testing.assert_allclose(two[0] - one[0], 2.0 * np.log(10.0), atol=1e-3)
    np.testing.assert_allclose(two[1:], one[1:], atol=1e-3)  # only the level changed
    assert cepstra(np.zeros(0)).shape == (13, 0)


def test_the_published_vggish_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        network = VGGish()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if name.endswith("weight")}
    convolutions = [shapes[f"features.{index}.weight"][:2] for index in (0, 3, 6, 8, 11, 13)]
    assert convolutions == [(64, 1), (128, 64), (256, 128), (256, 256), (512, 256), (512, 512)]
    assert [shapes[f"embeddings.{index}.weight"] for index in (0, 2, 4)] == [(4096, 12288), (4096, 4096), (128, 4096)]
    assert tiny_vggish()(torch.zeros(3, 1, 96, 64)).shape == (3, 4)


def test_examples_of_audio_are_as_many_as_fit() -> None:
    assert log_mel_examples(np.zeros(15599)).shape == (0, 96, 64)
    assert log_mel_examples(np.zeros(2 * 16000)).shape == (2, 96, 64)
    np.testing.assert_allclose(log_mel_examples(np.zeros(16000)), np.log(0.01))


def test_audio_distance_is_nought_for_the_same_videos_and_grows_when_they_differ(tmp_path: Path) -> None:
    path = saved(tiny_vggish(), tmp_path / "fad.safetensors")
    metric = VGGishFAD(fewest=4, network=tiny_vggish())
    real = [Sample(clip_of(2.0, side=8, seed=seed)) for seed in range(3)]
    quiet = [Sample(Clip(one.clip.frames, one.clip.waveform * np.float32(0.01), one.clip.fps, 16000)) for one in real]
    same, other = (measure(metric, made, references=real, weights=path) for made in (real, quiet))
    assert same.values["fad"] == pytest.approx(0.0, abs=1e-8)
    assert other.values["fad"] > 1e-4
    assert not same.intervals


def test_audio_distance_refuses_small_sets_and_needs_real_videos(tmp_path: Path) -> None:
    path = saved(tiny_vggish(), tmp_path / "fad.safetensors")
    metric, samples = VGGishFAD(network=tiny_vggish()), [Sample(clip_of(1.2, side=8))]
    small = measure(metric, samples, references=samples, weights=path)
    assert (small.status, "at least 256" in small.reason) == ("failed", True)
    assert measure(metric, samples, weights=path).reason == "it compares with real videos, and none were given"


class Fixed:
    """Says that every piece is late by the same step, unless the audio is louder than the picture is bright."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, video: Tensor, audio: Tensor) -> Tensor:
        self.shapes += [tuple(video.shape), tuple(audio.shape)]
        return torch.eye(21)[self.step][None]


def test_desync_is_the_size_of_the_likeliest_offset_at_both_ends() -> None:
    model = Fixed(7)
    scores = DeSyncScorer(model)([Sample(clip_of(5.0)), Sample(clip_of(4.0))], ())
    assert list(scores.columns["desync_s"]) == [pytest.approx(abs(OFFSETS_S[7]))]
    assert scores.reasons == ["it lasts 4.00 s; DeSync needs 4.8 s."]
    assert model.shapes == [(1, 14, 16, 3, 224, 224), (1, 14, 128, 66)] * 2


def test_desync_pieces_of_audio_and_picture_are_of_the_same_instants() -> None:
    clip = clip_of(5.0, side=16)
    video, audio = segments(clip)
    assert len(video) == len(audio) == 14
    torch.testing.assert_close(video[1, 0], video[0, 8])  # both step by 0.32 s
    step = (audio[1, :, 4:28] - audio[0, :, 36:60]).abs().max()  # 32 steps of 10 ms later
    assert step < 1e-4


def test_a_network_for_desync_is_built_from_weights_by_a_given_function(tmp_path: Path) -> None:
    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(4, 21)

        def forward(self, video: Tensor, audio: Tensor) -> Tensor:
            seen = torch.stack((video.mean((1, 2, 3, 4, 5)), video.std((1, 2, 3, 4, 5))), dim=-1)
            heard = torch.stack((audio.mean((1, 2, 3)), audio.std((1, 2, 3))), dim=-1)
            return self.out(torch.cat((seen, heard), dim=-1))

    def build(weights: Path) -> Tiny:
        network = Tiny().eval()
        network.load_state_dict(load_file(weights))
        return network

    torch.manual_seed(0)
    path = tmp_path / "desync.safetensors"
    save_file(Tiny().state_dict(), path)
    result = measure(DeSync(build=build), [Sample(clip_of(5.0, side=16))], weights=path)
    assert result.status == "ok", result.reason
    assert any(result.values["desync_s"] == pytest.approx(abs(step)) for step in OFFSETS_S)


def clap_folder(folder: Path) -> Path:
    """A CLAP of a few thousand random parameters, in the layout of the published one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "dog", "barks", "rain"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=16000,
        hop_length=100,
        max_length_s=1,
        fft_window_size=512,
        frequency_max=8000,
        truncation="rand_trunc",
    ).save_pretrained(folder)
    text = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    audio = {
        "num_mel_bins": 16, "spec_size": 64, "window_size": 4, "patch_size": 2, "patch_stride": [2, 2], "hidden_size": 32,
        "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "num_hidden_layers": 2,
        "enable_fusion": False, "num_classes": 8, "projection_dim": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16)).save_pretrained(folder)
    return folder


def test_clap_scores_each_video_against_its_own_prompt(tmp_path: Path) -> None:
    folder = clap_folder(tmp_path / "clap")
    samples: Sequence[Sample] = [
        Sample(clip_of(0.8, side=8), "a dog barks"),
        Sample(clip_of(0.8, side=8), "rain"),
        Sample(clip_of(0.8)),
    ]
    result = measure(ClapScore(), samples, weights=folder)
    assert result.status == "ok", result.reason
    assert (result.num_scored, result.num_failed) == (2, 1)
    assert -1.0 <= result.values["clap"] <= 1.0
    first, second = (measure(ClapScore(), [one], weights=folder).values["clap"] for one in samples[:2])
    assert first != second
    assert result.values["clap"] == pytest.approx((first + second) / 2)


def test_clap_of_audio_longer_than_its_window_is_the_same_every_time(tmp_path: Path) -> None:
    folder = clap_folder(tmp_path / "clap")
    long = clip_of(2.3, side=8)  # the window lasts 1 s: two whole ones, and a rest that is left out
    parts = [
        Sample(Clip(long.frames[:25], piece, long.fps, 16000), "rain") for piece in np.split(long.waveform[:, :32000], 2, 1)
    ]
    whole = [measure(ClapScore(), [Sample(long, "rain")], weights=folder).values["clap"] for _ in range(2)]
    assert whole[0] == whole[1]
    assert whole[0] == pytest.approx(measure(ClapScore(), parts, weights=folder).values["clap"], abs=1e-5)


def test_clap_is_not_computed_with_weights_that_were_never_read(tmp_path: Path) -> None:
    folder = clap_folder(tmp_path / "clap")
    samples = [Sample(clip_of(0.8, side=8), "rain")]
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.linear1.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    result = measure(ClapScore(), samples, weights=folder)
    assert (result.status, "text_projection.linear1.weight" in result.reason) == ("failed", True)
    (folder / "config.json").unlink()
    result = measure(ClapScore(), samples, weights=folder)
    assert (result.status, "config.json" in result.reason) == ("failed", True)


def test_frames_for_another_clock_are_taken_by_time() -> None:
    clip = clip_of(1.0, fps=10)
    np.testing.assert_array_equal(frame_indices(clip, 25.0), np.floor(np.arange(25) / 25 * 10 + 1e-6))
    assert rearrange(clip.frames, "t h w c -> t (h w c)").shape[0] == 10
