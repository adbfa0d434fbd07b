"""The speaker encoder equals its formula, computed by itself from the file."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WavLMConfig, WavLMModel

from kani.speaker_embedding import (
    load_encoder,
    mean_of,
    read_embedding,
    save_embedding,
    voice_of,
)
from tests.kani.made_up_speakers import DIM, WAVLM, embeddings, write_encoder
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.files import write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tbr")


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (0.1 * random.standard_normal(int(16000 * seconds)) + 0.02).astype(np.float32)


@torch.no_grad()
def by_hand(folder, samples: np.ndarray) -> np.ndarray:
    """In float64, with nothing of transformers but WavLM."""
    tensors = load_file(folder / "model.safetensors")
    wavlm = WavLMModel(WavLMConfig(**WAVLM)).eval()
    wavlm.load_state_dict(
        {k.removeprefix("wavlm."): v for k, v in tensors.items() if k.startswith("wavlm.")}
    )
    x = samples.astype(np.float64)
    x = (x - x.mean()) / (x.std(ddof=1) + 1e-10)
    heard = wavlm(torch.from_numpy(x).float()[None]).last_hidden_state[0].double().numpy()
    spread = np.sqrt(np.maximum(heard.var(axis=0, ddof=1), 1e-10))
    found = np.concatenate([heard.mean(axis=0), spread])
    top = {k.removeprefix("top_layers."): v.double().numpy() for k, v in tensors.items()}
    for n in (1, 2):
        found = top[f"affine{n}.weight"][..., 0] @ found + top[f"affine{n}.bias"]
        variance = top[f"batchnorm{n}.running_var"] + 1e-3
        found = (np.maximum(found, 0) - top[f"batchnorm{n}.running_mean"]) / np.sqrt(variance)
    return found / np.linalg.norm(found)


def test_an_embedding_is_that_of_the_formula(folder):
    samples = sound(0.7)
    found = load_encoder(folder).embed(torch.from_numpy(samples))
    assert found.shape == (DIM,)
    np.testing.assert_allclose(found.numpy(), by_hand(folder, samples), atol=1e-5)
    other = load_encoder(folder).embed(torch.from_numpy(sound(0.7, seed=1)))
    assert float((found - other).norm()) > 1e-3


def test_weight_norm_is_read_under_its_older_names(folder, tmp_path):
    older = write_encoder(tmp_path / "older", older=True)
    assert any(name.endswith("weight_g") for name in load_file(older / "model.safetensors"))
    samples = torch.from_numpy(sound(0.5))
    assert torch.equal(load_encoder(older).embed(samples), load_encoder(folder).embed(samples))


def test_no_more_than_30_seconds_are_heard(folder):
    encoder, samples = load_encoder(folder), torch.from_numpy(sound(31))
    assert torch.equal(encoder.embed(samples), encoder.embed(samples[: 30 * 16000]))


def test_a_voice_of_several_recordings_is_their_mean_of_length_1(folder, tmp_path):
    paths = [tmp_path / f"{n}.wav" for n in range(2)]
    for n, path in enumerate(paths):
        audio.save(path, sound(0.4 + n, seed=n), 16000)
    encoder = load_encoder(folder)
    each = torch.stack([encoder.of_file(path) for path in paths]).double().numpy()
    expected = each.mean(axis=0) / np.linalg.norm(each.mean(axis=0))
    found = voice_of(paths, folder)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert torch.equal(voice_of(paths[:1], folder), mean_of([encoder.of_file(paths[0])]))


@pytest.mark.parametrize("name", ["voice.safetensors", "voice.pt"])
def test_a_stored_embedding_is_read_again(tmp_path, name):
    path, embedding = tmp_path / name, embeddings(1)
    if path.suffix == ".pt":
        torch.save(embedding, path)  # as the public program does, (1, E)
    else:
        save_embedding(path, embedding[0])
    assert torch.equal(read_embedding(path), embedding[0])


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a": torch.ones(3), "b": torch.ones(3)}, "one tensor of finite numbers"),
        ({"a": torch.full((3,), torch.nan)}, "one tensor of finite numbers"),
        ({"a": torch.zeros(3)}, "one tensor of finite numbers"),
    ],
)
def test_what_is_no_embedding_is_refused(tmp_path, tensors, words):
    save_file(tensors, tmp_path / "voice.safetensors")
    with pytest.raises(UserError, match=words):
        read_embedding(tmp_path / "voice.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("no weights", "no model.safetensors"),
        ("other settings", "no embd_size or top_interm_size"),
        ("impossible settings", "settings of no network"),
        ("tensor missing", "1 missing: top_layers.batchnorm2.running_var"),
        ("other network", "of another shape"),
        ("cut", "truncated"),
    ],
)
def test_a_folder_that_is_no_encoder_is_refused_in_a_line(folder, tmp_path, damage, words):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights, tensors = broken / "model.safetensors", load_file(folder / "model.safetensors")
    if damage == "no weights":
        weights.rename(broken / "pytorch_model.bin")
    elif damage == "other settings":
        write_json(broken / "config.json", {"model_type": "wavlm"})
    elif damage == "impossible settings":
        write_json(broken / "config.json", {**WAVLM, "conv_kernel": [3]})
    elif damage == "tensor missing":
        del tensors["top_layers.batchnorm2.running_var"]
        save_file(tensors, weights)
    elif damage == "other network":
        write_json(broken / "config.json", {**WAVLM, "embd_size": DIM + 1})
    else:
        weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(UserError, match=words) as caught:
        load_encoder(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("samples", "words"),
    [(sound(0.05), "less than 0.1 s"), (np.zeros(8000, np.float32), "silent")],
)
def test_a_recording_that_tells_no_voice_is_refused(folder, tmp_path, samples, words):
    audio.save(tmp_path / "a.wav", samples, 16000)
    with pytest.raises(UserError, match=words) as caught:
        voice_of([tmp_path / "a.wav"], folder)
    assert "a.wav" in str(caught.value)
