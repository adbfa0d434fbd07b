"""Mels from the flow must be the original's; batching must change none of them."""

import pytest
import torch
import torch.nn.functional as F

from indextts.s2mel.cfm import CFM
from indextts.s2mel.config import S2MelConfig
from tests.indextts.acoustic_golden import furthest, golden


@pytest.fixture(scope="module")
def flow():
    data = golden("cfm_inference")
    made = CFM(S2MelConfig.from_official(data.settings["config"]["s2mel"], (24, 28)).dit).eval()
    made.load_state_dict(data.weights())
    return made.requires_grad_(False)


def inputs(case):
    data = golden("cfm_inference")
    return [data[f"in.{name}{case}"] for name in ("mu", "prompt", "style", "noise")]


@pytest.mark.parametrize("case", [0, 1, 2])
def test_mels_equal_the_originals(flow, case):
    data = golden("cfm_inference")
    settings = data.settings["config"]["cases"][case]
    mel = flow.inference(
        *inputs(case),
        n_steps=settings["n_timesteps"],
        guidance=settings["inference_cfg_rate"],
        temperature=settings["temperature"],
    )
    assert furthest(mel, data[f"out.mel{case}"]) < 5e-5
    assert not mel[..., : settings["prompt_frames"]].any()


@pytest.mark.parametrize("guidance", [0.0, 0.7])
def test_a_batch_of_unequal_segments_equals_one_by_one(flow, guidance):
    cases = [inputs(case) for case in range(3)]
    lengths = torch.tensor([case[0].shape[1] for case in cases])
    prompt_lengths = torch.tensor([case[1].shape[2] for case in cases])
    longest, widest = int(lengths.max()), int(prompt_lengths.max())
    # What stands in the padding must not matter, so let it be large.
    together = flow.inference(
        torch.cat([F.pad(c[0], (0, 0, 0, longest - c[0].shape[1]), value=50.0) for c in cases]),
        torch.cat([F.pad(c[1], (0, widest - c[1].shape[2]), value=50.0) for c in cases]),
        torch.cat([c[2] for c in cases]),
        torch.cat([F.pad(c[3], (0, longest - c[3].shape[2]), value=50.0) for c in cases]),
        lengths=lengths,
        prompt_lengths=prompt_lengths,
        n_steps=5,
        guidance=guidance,
    )
    for row, (case, n) in enumerate(zip(cases, lengths.tolist(), strict=True)):
        alone = flow.inference(*case, n_steps=5, guidance=guidance)
        assert furthest(together[row : row + 1, :, :n], alone) < 2e-5
        assert not together[row, :, n:].any()


def test_the_training_loss_equals_the_originals(flow):
    data = golden("cfm_inference")
    names = ("x1", "x_lens", "prompt_lens", "mu", "style")
    batch = [data[f"in.train_{name}"] for name in names]
    time, noise = data["in.train_t"].flatten(), data["in.train_z"]
    loss = flow.loss(*batch, time, noise)
    assert loss.item() == pytest.approx(data["out.train_loss"].item(), abs=2e-6)


def miniature():
    torch.manual_seed(0)
    made = CFM(S2MelConfig.tiny().dit).eval()
    condition, noise = torch.randn(1, 40, 20), torch.randn(1, 12, 40)
    prompt, style = torch.randn(1, 12, 10), torch.randn(1, 10)
    return made, (condition, prompt, style, noise)


def test_a_bf16_estimator_gives_nearly_the_same_mel():
    made, given = miniature()
    mel = made.inference(*given, n_steps=4)
    half = made.bfloat16().inference(*given, n_steps=4)
    assert half.dtype == torch.float32
    assert furthest(mel, half) < 0.05 * mel.std()


def test_a_flow_in_bf16_leaves_the_weights_as_they_are():
    made, given = miniature()
    mel = made.inference(*given, n_steps=4)
    half = made.inference(*given, n_steps=4, flow_dtype=torch.bfloat16)
    assert torch.equal(made.inference(*given, n_steps=4), mel)
    assert {weight.dtype for weight in made.parameters()} == {torch.float32}
    assert 0 < furthest(mel, half) < 0.05 * mel.std()
    assert torch.equal(made.bfloat16().inference(*given, n_steps=4), half)


def test_a_prompt_as_long_as_the_whole_is_refused(flow):
    condition, _, style, noise = inputs(0)
    with pytest.raises(ValueError, match="leaves no room"):
        flow.inference(condition, noise, style, noise)
