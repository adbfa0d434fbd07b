"""The language model against the original program: training forward, second pass, full size."""

import copy
import json
import zlib

import pytest
import torch
from torch import Tensor

from indextts.config import GptConfig
from indextts.gpt.model import UnifiedVoice, VoiceBatch
from indextts.loss import voice_loss
from tests.indextts.gpt_golden import CLOSE, FOLDER, config_of, golden, read


@pytest.fixture(scope="module")
def gold():
    return golden("gpt_train_forward")


def voice_batch(model: UnifiedVoice, gold) -> VoiceBatch:
    def mask(name: str) -> Tensor:
        frames = gold[f"in.{name}_cond"].shape[1]
        key = {"spk": "in.cond_lengths", "emo": "in.emo_lengths"}[name]
        return torch.arange(frames) < gold[key][:, None]

    return VoiceBatch(
        text=gold["in.text"],
        text_lengths=gold["in.text_lengths"],
        codes=gold["in.mel"],
        code_lengths=gold["in.mel_lengths"],
        speaker=model.speaker_latent(gold["in.spk_cond"], mask("spk")),
        emotion=model.emotion_vector(gold["in.emo_cond"], mask("emo")),
    )


def test_training_forward_is_the_originals(gold):
    batch = voice_batch(gold.model, gold)
    output = gold.model(batch)
    close = {
        "conds": gold.model.conditions(batch.speaker, batch.emotion),
        "text_logits": output.text_logits.mT,
        "mel_logits": output.mel_logits.mT,
        "text_latent": output.text_hidden,
        "mel_latent_full": output.mel_hidden,
        "latent": output.mel_hidden[:, :-2],
    }
    for key, value in close.items():
        torch.testing.assert_close(value, gold[f"out.{key}"], **CLOSE, msg=key)
    for key in ("text_targets", "mel_targets", "text_mask", "mel_mask"):
        assert getattr(output, key).long().tolist() == gold[f"out.{key}"].tolist(), key


def test_losses_and_gradients_are_the_originals(gold):
    model = copy.deepcopy(gold.model).requires_grad_(True)
    losses = voice_loss(model(voice_batch(model, gold)))
    torch.testing.assert_close(losses.parts["text"], gold["out.loss_text"][0], **CLOSE)
    torch.testing.assert_close(losses.parts["mel"], gold["out.loss_mel"][0], **CLOSE)
    torch.testing.assert_close(losses.total, gold["out.loss"][0], **CLOSE)
    losses.total.backward()
    parameters = dict(model.named_parameters())
    flipped = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # [in, out] in files only
    for key, expected in gold.tensors.items():
        if key.startswith("out.grad."):
            name = key.removeprefix("out.grad.")
            gradient = parameters[name].grad
            assert gradient is not None
            gradient = gradient.T if name.endswith(flipped) else gradient
            torch.testing.assert_close(gradient, expected, **CLOSE, msg=name)


def test_the_forward_pass_leaves_the_batch_alone(gold):
    batch = voice_batch(gold.model, gold)
    before = copy.deepcopy((batch.text, batch.codes))
    gold.model(batch)
    assert torch.equal(batch.text, before[0])
    assert torch.equal(batch.codes, before[1])


def test_frozen_weights_around_an_adapter_leave_it_a_gradient(gold):
    model = copy.deepcopy(gold.model).requires_grad_(False).train()
    model.gpt.recomputes = True
    adapted = model.gpt.h[0].attn.c_attn.weight.requires_grad_(True)
    voice_loss(model(voice_batch(model, gold))).total.backward()
    assert adapted.grad is not None
    assert adapted.grad.abs().sum() > 0


@pytest.mark.parametrize("case", ["greedy", "greedy_rep10"])
def test_latents_are_the_originals(case):
    gold = golden("gpt_latent")
    prefix = gold.model.prefix(
        gold[f"in.{case}.spk_latent"], gold[f"in.{case}.emo_vec"], gold[f"in.{case}.text"].tolist()
    )
    latents = gold.model.latents(prefix, gold[f"in.{case}.codes"])
    torch.testing.assert_close(latents, gold[f"out.{case}.latent"], **CLOSE)
    logits = gold.model.mel_head(latents)
    torch.testing.assert_close(logits, gold[f"out.{case}.mel_logits_from_latent"], **CLOSE)


def test_latents_of_a_batch_are_those_of_each_text_alone():
    gold = golden("gpt_latent")
    model, speaker = gold.model, gold["in.greedy.spk_latent"]
    emotion, codes = gold["in.greedy.emo_vec"], gold["in.greedy.codes"]
    texts = [[5, 9, 13, 22, 7, 30], [8, 4], [11, 12, 13, 14]]
    rows = torch.cat([codes, codes.flip(1), codes.roll(3, 1)])
    together = model.latents(model.prefix(speaker, emotion, texts), rows)
    for text, row, expected in zip(texts, rows, together, strict=True):
        alone = model.latents(model.prefix(speaker, emotion, [text]), row[None, :11])
        torch.testing.assert_close(alone[0], expected[:11], **CLOSE)


def procedural(name: str, shape: tuple[int, ...], salt: int) -> Tensor:
    """The formula that gpt_fullwidth_procedural.json gives for weights and inputs."""
    n = torch.Size(shape).numel()
    c = zlib.crc32(name.encode()) % 1000 + salt
    v = torch.sin(torch.arange(n, dtype=torch.float64) * (0.7310 + 0.0001 * c) + 0.01 * c)
    is_norm = ("norm" in name or ".ln_" in name) and name.endswith("weight")
    if name.endswith("gamma") or is_norm:
        v = 1 + 0.2 * v
    elif len(shape) >= 2 and "emb" not in name and not name.endswith("latents"):
        v = v * 1.5 / (shape[0] if ".c_" in name else n / shape[0]) ** 0.5
    else:
        v = v * (0.5 if len(shape) >= 2 else 0.1)
    return v.reshape(shape).float()


def test_official_feature_width_gives_the_originals_latents():
    info, tensors = read("gpt_fullwidth_procedural")
    salt = info["salt"]
    model = UnifiedVoice(config_of(info)).eval().requires_grad_(False)
    weights = {k: procedural(k, tuple(v.shape), salt) for k, v in model.state_dict().items()}
    for key, (total, sixth) in info["weight_checks_sum_and_value5"].items():
        assert float(weights[key].double().sum()) == pytest.approx(total, abs=1e-3)
        assert float(weights[key].flatten()[5]) == pytest.approx(sixth, abs=1e-6)
    model.load_state_dict(weights)
    n_rows, width = len(tensors["in.text"]), model.config.cond_input_dim
    features, moods = (
        2 * procedural(f"in.{name}", (n_rows, info[frames], width), salt)
        for name, frames in (("spk", "T"), ("emo", "emoT"))
    )
    heard = torch.arange(info["T"]) < tensors["in.cond_lengths"][:, None]
    felt = torch.arange(info["emoT"]) < tensors["in.emo_lengths"][:, None]
    speaker, emotion = model.speaker_latent(features, heard), model.emotion_vector(moods, felt)
    base = model.emotion_vector(features, heard)
    batch = VoiceBatch(
        text=tensors["in.text"],
        text_lengths=torch.full((n_rows,), 7),
        codes=tensors["in.mel"],
        code_lengths=torch.full((n_rows,), 11),
        speaker=speaker,
        emotion=emotion,
    )
    torch.testing.assert_close(speaker, tensors["out.spk_latent"], **CLOSE)
    torch.testing.assert_close(emotion, tensors["out.emo_vec"], **CLOSE)
    mixed = torch.lerp(base, emotion, 0.6)
    torch.testing.assert_close(mixed, tensors["out.merge_alpha_0_6"], **CLOSE)
    torch.testing.assert_close(model(batch).mel_hidden[:, :-2], tensors["out.latent"], **CLOSE)


def test_keys_and_shapes_at_full_size_are_the_official_ones():
    official = json.loads((FOLDER / "gpt_keys.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = UnifiedVoice(GptConfig())
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert shapes == official["shapes"]
    assert sum(p.numel() for p in model.parameters()) == official["parameters"]


def test_weights_come_back_from_a_file_as_they_were(gold, tmp_path):
    path = tmp_path / "gpt.pth"
    torch.save({"model": gold.model.state_dict()}, path)
    model = UnifiedVoice(gold.model.config)
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    for (name, mine), theirs in zip(model.named_parameters(), gold.model.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
