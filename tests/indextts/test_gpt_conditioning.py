"""Speaker and emotion networks against the original program."""

import pytest
import torch

from indextts.gpt.conformer import sinusoids
from tests.indextts.gpt_golden import CLOSE, golden

CASES = ["even", "odd_batch_pad"]


@pytest.fixture(scope="module")
def gold():
    return golden("gpt_conditioning")


def real_frames(gold, case):
    lengths = gold[f"in.{case}.lengths"]
    return torch.arange(gold[f"in.{case}.x"].shape[1]) < lengths[:, None]


@pytest.mark.parametrize("case", CASES)
def test_subsampling_is_the_originals(gold, case):
    embedded = gold.model.conditioning_encoder.embed(gold[f"in.{case}.x"])
    width = embedded.shape[-1]
    torch.testing.assert_close(embedded * width**0.5, gold[f"out.{case}.spk_embed"], **CLOSE)
    positions = sinusoids(embedded.shape[1], width, embedded.device)
    torch.testing.assert_close(positions[None], gold[f"out.{case}.spk_pos_emb"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("voice", ["spk", "emo"])
def test_conformers_are_the_originals(gold, case, voice):
    module = {"spk": "conditioning_encoder", "emo": "emo_conditioning_encoder"}[voice]
    hidden, mask = getattr(gold.model, module)(gold[f"in.{case}.x"], real_frames(gold, case))
    torch.testing.assert_close(hidden, gold[f"out.{case}.{voice}_conformer"], **CLOSE)
    assert mask.tolist() == gold[f"out.{case}.mask"][:, 0].bool().tolist()


@pytest.mark.parametrize("case", CASES)
def test_speaker_latents_and_emotion_vectors_are_the_originals(gold, case):
    features, mask = gold[f"in.{case}.x"], real_frames(gold, case)
    latent = gold.model.speaker_latent(features, mask)
    torch.testing.assert_close(latent, gold[f"out.{case}.spk_latent"], **CLOSE)
    emotion = gold.model.emotion_vector(features, mask)
    torch.testing.assert_close(emotion, gold[f"out.{case}.emo_vec"], **CLOSE)


@pytest.mark.parametrize("alpha", [0.0, 0.35, 1.0])
def test_mixed_emotions_are_the_originals(gold, alpha):
    base = gold.model.emotion_vector(gold["in.even.x"][:1])
    wanted = gold.model.emotion_vector(gold["in.odd_batch_pad.x"][:1])
    mixed = torch.lerp(base, wanted, alpha)
    torch.testing.assert_close(mixed, gold[f"out.merge_alpha_{alpha}"], **CLOSE)


def test_what_stands_in_the_padding_changes_nothing(gold):
    features, mask = gold["in.odd_batch_pad.x"], real_frames(gold, "odd_batch_pad")
    # The subsampling looks two frames past the last one that counts, as the original's does.
    beyond = torch.arange(features.shape[1]) >= mask.sum(1, keepdim=True) + 2
    changed = features.masked_fill(beyond[..., None], 7.0)
    assert not torch.equal(changed, features)
    torch.testing.assert_close(
        gold.model.speaker_latent(changed, mask), gold.model.speaker_latent(features, mask)
    )


def test_too_few_frames_are_refused(gold):
    with pytest.raises(ValueError, match="2 frames"):
        gold.model.speaker_latent(gold["in.even.x"][:, :2])
