"""An expert comes into memory when it is called, once, and goes only while nobody uses it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn

from mova.checkpoints.load import Components
from mova.errors import CheckpointError
from mova.models.joint import JointModel, share_audio_and_bridge
from mova.runtime.experts import ExpertPair

CPU = torch.device("cpu")


class Stored:
    """Both experts' weights as a folder would hold them, and what was read of them."""

    def __init__(self, components: Components) -> None:
        assert components.transformer_2 is not None
        self.first, self.second = copy.deepcopy((components.transformer, components.transformer_2))
        share_audio_and_bridge(self.first, self.second)
        self.values = [dict(self.first.state_dict()), dict(self.second.state_dict())]
        self.reads: list[str] = []
        self.problem: Exception | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def reader(self, index: int, name: str) -> Callable[[torch.device], None]:
        def read(device: torch.device) -> None:
            self.reads.append(
                f"{name} {'beside' if threading.current_thread() is not threading.main_thread() else 'in'} the run"
            )
            assert self.may_go_on.wait(60)
            if self.problem is not None:
                raise self.problem
            for key in own_names(self.first if index == 0 else self.second):
                put(self.first if index == 0 else self.second, key, self.values[index][key].to(device))

        return read

    def pair(self, *, is_prefetched: bool = True, drops: bool = False) -> ExpertPair:
        for key in own_names(self.second):
            put(self.second, key, self.values[1][key].to("meta"))
        return ExpertPair(
            self.first,
            self.second,
            read_first=self.reader(0, "first"),
            read_second=self.reader(1, "second"),
            is_prefetched=is_prefetched,
            drops=drops,
            device=CPU,
        )


def own_names(model: JointModel) -> list[str]:
    return [name for name, _ in model.named_parameters() if name.startswith("video_") or ".video." in name]


def put(model: nn.Module, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    model.get_submodule(owner)._parameters[leaf] = nn.Parameter(value, requires_grad=False)


@torch.no_grad()
def call(model: JointModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    velocity: Tensor = model(
        torch.randn(1, 4, 2, 4, 4, generator=generator),
        torch.randn(1, 6, 9, generator=generator),
        video_timestep=torch.tensor([700.0]),
        audio_timestep=torch.tensor([700.0]),
        video_fps=16.0,
        text_embeds=torch.randn(1, 5, 32, generator=generator),
    ).video
    return velocity


@pytest.fixture
def stored(tiny_two_experts: Components) -> Stored:
    return Stored(tiny_two_experts)


def test_while_it_is_out_an_expert_keeps_type_and_device_and_takes_no_memory(stored: Stored) -> None:
    pair = stored.pair()
    assert pair.in_memory == (True, False)
    assert stored.second.dtype == torch.float32
    assert stored.second.device == CPU
    own = [stored.second.get_parameter(name) for name in own_names(stored.second)]
    assert sum(parameter.numel() for parameter in own) == 0
    assert stored.second.audio_head.head.weight.numel() > 0  # the first's, which is there
    stored.second.to("cpu", torch.float32)  # an empty expert can be moved


def test_the_second_is_read_beside_the_first_and_once(stored: Stored) -> None:
    expected = call(stored.second)
    pair = stored.pair()
    for _ in range(3):
        call(stored.first)
    assert torch.equal(call(stored.second), expected)
    assert torch.equal(call(stored.second), expected)
    assert stored.reads == ["second beside the run"]
    assert pair.in_memory == (True, True)


def test_who_needs_it_early_waits_for_it(stored: Stored) -> None:
    expected = call(stored.second)
    stored.pair()
    stored.may_go_on.clear()
    call(stored.first)
    threading.Timer(0.2, stored.may_go_on.set).start()
    assert torch.equal(call(stored.second), expected)
    assert stored.reads == ["second beside the run"]


def test_with_drops_one_expert_is_in_memory_and_both_come_again(stored: Stored) -> None:
    expected = call(stored.first), call(stored.second)
    pair = stored.pair(is_prefetched=False, drops=True)
    for _ in range(2):
        assert torch.equal(call(stored.first), expected[0])
        assert pair.in_memory == (True, False)
        assert torch.equal(call(stored.second), expected[1])
        assert pair.in_memory == (False, True)
    assert stored.reads == [f"{name} in the run" for name in ("second", "first", "second")]


def test_an_expert_at_work_is_not_dropped(stored: Stored) -> None:
    expected = call(stored.first)
    pair = stored.pair(is_prefetched=False, drops=True)
    seen: list[tuple[bool, bool]] = []

    def call_the_other(*_: object) -> None:
        call(stored.second)
        seen.append(pair.in_memory)

    stored.first.transformer_blocks[0].register_forward_pre_hook(call_the_other)
    assert torch.equal(call(stored.first), expected)
    assert seen == [(True, True)]


def test_an_expert_with_a_fused_adapter_is_not_dropped(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    pair = stored.pair(is_prefetched=False, drops=True)
    stored.first.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    stored.first.fuse_lora()
    fused = call(stored.first)
    call(stored.second)
    assert pair.in_memory == (True, True)
    assert "first expert stays" in caplog.text
    assert torch.equal(call(stored.first), fused)


@pytest.mark.parametrize("is_prefetched", [True, False])
def test_whatever_goes_wrong_while_reading_is_one_clear_error_and_can_be_mended(stored: Stored, is_prefetched: bool) -> None:
    expected = call(stored.second)
    pair = stored.pair(is_prefetched=is_prefetched)
    stored.problem = OSError("the disk has gone")
    call(stored.first)
    with pytest.raises(CheckpointError, match="second expert cannot be read: the disk has gone"):
        call(stored.second)
    assert pair.in_memory == (True, False)
    assert stored.second.video_head.head.weight.numel() == 0
    stored.problem = None
    assert torch.equal(call(stored.second), expected)


def test_a_failed_forward_does_not_hold_its_expert_for_ever(stored: Stored) -> None:
    pair = stored.pair(is_prefetched=False, drops=True)
    with pytest.raises(TypeError):
        stored.first("not latents")
    call(stored.second)
    assert pair.in_memory == (False, True)


def test_the_state_of_an_absent_expert_is_whole(stored: Stored) -> None:
    stored.pair(is_prefetched=False)
    state = stored.second.state_dict()
    assert all(torch.equal(state[name], value) for name, value in stored.values[1].items())
