"""The schedule against the official scheduler's recorded curves, pairs, lookups and steps."""

import pytest
import torch
from golden import load_case

from mova.sampling.schedule import ScheduleConfig, configured_sigmas, schedule_pair

NUM_SETTINGS = 10  # the eleventh entry holds no curve


@pytest.mark.parametrize("index", range(NUM_SETTINGS))
def test_curves_pairs_and_updates_equal_the_official_ones(index: int) -> None:
    case, tensors = load_case("case7_scheduler")
    setting = case["info"][index]
    config = ScheduleConfig.from_values(setting["init"])
    num_steps = setting["steps"]
    shift, audio_shift = setting.get("dual", (setting.get("shift"), None))
    strength = setting.get("denoising_strength", 1.0)
    pair = schedule_pair(config, num_steps, shift=shift, audio_shift=audio_shift, denoising_strength=strength)

    def expect(name: str, actual: torch.Tensor, *, scale: float = 1.0) -> None:
        torch.testing.assert_close(actual, tensors[f"outputs.{index}.{name}"], rtol=0, atol=1e-6 * scale, msg=name)

    columns = torch.stack([column.timesteps[:-1] for column in pair], dim=1)
    expect("pair_timesteps", columns, scale=1000)
    expect("pair_sigmas", columns / 1000)
    expect("used_sigmas", torch.stack([column.sigmas[:-1] for column in pair], dim=1))
    expect("train_sigmas", configured_sigmas(config, 1000)[:-1])
    if "dual" not in setting:
        expect("sigmas", columns[:, 0] / 1000)

    sample, velocity = (tensors[f"inputs.{index}.{name}"] for name in ("sample", "velocity"))
    for step in (0, num_steps // 2, num_steps - 1):
        for column, levels in enumerate(pair):
            moved = sample + velocity * (levels.sigmas[step + 1] - levels.sigmas[step])
            expect(f"step{step}_col{column}", moved)


def test_half_of_the_steps_of_the_official_run_fall_to_each_expert_as_recorded() -> None:
    config = ScheduleConfig(shift=5.0, sigma_min=0.0, extra_one_step=True)
    for num_steps, high_noise_steps in ((50, 18), (25, 9)):
        video, _ = schedule_pair(config, num_steps)
        assert int((video.timesteps[:-1] >= 900).sum()) == high_noise_steps
