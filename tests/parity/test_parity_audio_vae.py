from __future__ import annotations

import torch
from golden import assert_close, load_case, pick

from mova.models.codecs.audio_vae import DacVae, fold_weight_norm


def test_dac_vae_equals_the_reference() -> None:
    case, tensors = load_case("case8_dac_vae")
    vae = DacVae.from_config(case["config"]["model"]).eval()
    vae.load_state_dict(pick(tensors, "weights."), strict=True)
    golden = pick(tensors, "outputs.")

    assert_close(vae.encoder(golden["padded_wave"]), golden["encoder_hidden"])
    posterior = vae.encode(tensors["inputs.wave"]).latent_dist
    assert_close(posterior.mean, golden["mean"])
    assert_close(posterior.logvar, golden["logvar"])
    assert_close(torch.exp(0.5 * posterior.logvar), golden["std"])
    assert_close(vae.decode(tensors["inputs.latent"]).sample, golden["decoded"])
    # these random snakes amplify rounding: a float64 evaluation differs from the float32 fixture by 1.2e-5
    assert_close(vae.decode(golden["mean"]).sample, golden["reconstruction"], 2e-5)


def test_weight_normed_file_folds_to_the_plain_one() -> None:
    _, tensors = load_case("case8_dac_vae")
    plain = pick(tensors, "weights.")
    normed = {}
    for name, value in plain.items():
        if name.endswith("weight"):
            stem = name.removesuffix("weight")
            normed[stem + "weight_g"] = torch.linalg.vector_norm(value, dim=(1, 2), keepdim=True)
            normed[stem + "weight_v"] = 3.0 * value
        else:
            normed[name] = value
    folded = fold_weight_norm(normed)
    assert folded.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(folded[name], value)
