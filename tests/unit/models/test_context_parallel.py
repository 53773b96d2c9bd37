from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import ParallelConfig
from tiny_joint import FRAMES, SIDE, TINY, build, inputs, run
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import start_processes

from mova.data.shards import start_method

RANKS = 2


def test_two_ranks_give_the_velocities_of_one_with_an_odd_number_of_audio_tokens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(worker, args=(port, tmp_path), nprocs=RANKS, start_method=start_method())
    for rank in range(RANKS):
        for ours, plain in torch.load(tmp_path / f"{rank}.pt", weights_only=True):
            torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def worker(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    config = TINY | {"bridge": TINY["bridge"] | {"pooled_adaln": True}}
    model, single = build(config), build(config)

    parallel = ContextParallelConfig(ulysses_degree=RANKS)
    mesh = init_device_mesh("cpu", parallel.mesh_shape, mesh_dim_names=parallel.mesh_dim_names)
    parallel.setup(rank, RANKS, torch.device("cpu"), mesh)
    for processor in model.attn_processors.values():
        processor._parallel_config = ParallelConfig(context_parallel_config=parallel)
    apply_context_parallel(model, parallel, model._cp_plan)

    pairs = []
    level = 1000 * torch.rand(2, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    for values in (inputs(), inputs() | {"video_timestep": level}):
        pairs += list(zip(run(model, values), run(single, values), strict=True))
    torch.save(pairs, folder / f"{rank}.pt")
    dist.destroy_process_group()
