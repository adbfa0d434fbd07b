"""Embeddings are those of the original program, and tell voices apart."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

from ttscommon.audio import load
from ttscommon.errors import UserError
from ttscommon.evaluation.voices import (
    GE2E,
    VOICE_RATE,
    load_ge2e,
    load_xvector,
    mean_voice,
    similarity,
    speech_only,
)
from ttscommon.segment import Span

TESTS = Path(__file__).resolve().parents[2]
GOLDEN = TESTS / "golden" / "voices" / "ge2e.safetensors"
RECORDINGS = TESTS.parent / "examples" / "sample_speaker" / "audio"
TINY = WavLMConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    conv_dim=(8, 8, 8),
    conv_kernel=(10, 8, 4),
    conv_stride=(5, 8, 4),
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    tdnn_dim=(8, 8),
    tdnn_kernel=(5, 3),
    tdnn_dilation=(1, 2),
    xvector_output_dim=8,
)
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("resemblyzer") is None, reason="installed by uv, not by pip"
)


def recording(number: int) -> np.ndarray:
    return load(RECORDINGS / f"spk_{number:03d}.flac", VOICE_RATE)


def larger_body(audio: np.ndarray, factor: float) -> np.ndarray:
    """The same speech from a body larger by `factor`: pitch and formants sink."""
    return soxr.resample(audio, VOICE_RATE, VOICE_RATE * factor).astype(np.float32)


@pytest.fixture(scope="module")
def ge2e() -> GE2E:
    return load_ge2e()


@needs_weights
@pytest.mark.parametrize("name", ["spk_001", "spk_003", "short"])
def test_embeddings_are_those_of_the_original_program(ge2e, name):
    audio = recording(1)[8000:20_000] if name == "short" else recording(int(name[-3:]))
    np.testing.assert_allclose(ge2e.embed(audio), load_file(GOLDEN)[name], atol=1e-5)


@needs_weights
def test_one_speaker_is_above_the_threshold_and_changed_bodies_are_below(ge2e):
    clips = [speech_only(recording(number), VOICE_RATE) for number in (1, 2, 3, 4, 6)]
    voices = [ge2e.embed(clip) for clip in clips]
    speaker = mean_voice(voices[1:])
    assert min(similarity(a, b) for a in voices for b in voices) > 0.75
    assert similarity(voices[0], speaker) > 0.8
    for factor in (0.7, 1.35):
        assert similarity(ge2e.embed(larger_body(clips[0], factor)), speaker) < 0.75


@needs_weights
def test_loudness_below_the_usual_makes_no_other_voice(ge2e):
    audio = recording(3)
    assert similarity(ge2e.embed(audio * 0.001), ge2e.embed(audio * 0.01)) > 0.999


def test_an_embedding_has_length_one_whatever_the_weights():
    network = GE2E().eval()
    found = network.embed(np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32))
    assert found.shape == (256,)
    assert np.linalg.norm(found) == pytest.approx(1)


def test_likeness_is_the_cosine_however_long_the_embeddings_are():
    a, b = np.array([3, 0], np.float32), np.array([2, 2], np.float32)
    assert similarity(a, b) == pytest.approx(0.5**0.5)


def test_long_silences_are_taken_out():
    audio = np.arange(10 * VOICE_RATE, dtype=np.float32)
    kept = speech_only(audio, VOICE_RATE, [Span(1, 2), Span(7, 8.5)])
    assert len(kept) == round((1.2 + 1.7) * VOICE_RATE)
    assert kept[0] == round(0.9 * VOICE_RATE)


@pytest.mark.parametrize("speech", [[], [Span(0, 0.3)]])
def test_too_little_speech_has_no_voice(speech):
    with pytest.raises(ValueError, match="half a second"):
        speech_only(np.ones(VOICE_RATE, np.float32), VOICE_RATE, speech)


def test_silence_has_no_voice_and_nobody_no_mean():
    with pytest.raises(ValueError, match="silence"):
        GE2E().embed(np.zeros(8000, np.float32))
    with pytest.raises(ValueError, match="no utterances"):
        mean_voice([])


def test_without_the_package_of_weights_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the weights in Resemblyzer") as caught:
        load_ge2e("meta")  # a device that no other test has loaded it for
    assert "pip install --no-deps Resemblyzer" in str(caught.value)


def write_wavlm(folder: Path) -> Path:
    """A small random network in the published files, `pytorch_model.bin` among them.

    The published one is of 2021, from before torch renamed what weight norm keeps.
    """
    torch.manual_seed(0)
    network = WavLMForXVector(TINY)
    network.save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    state = load_torch_file(folder / "model.safetensors")
    renamed = {_as_published(name): tensor for name, tensor in state.items()}
    assert set(renamed) != set(state), "nothing to rename: this shows nothing"
    (folder / "model.safetensors").unlink()
    torch.save(renamed, folder / "pytorch_model.bin")
    return folder


def _as_published(name: str) -> str:
    for number, before in enumerate(("weight_g", "weight_v")):
        name = name.replace(f"parametrizations.weight.original{number}", before)
    return name


@pytest.fixture(scope="module")
def tiny_wavlm(tmp_path_factory) -> Path:
    return write_wavlm(tmp_path_factory.mktemp("wavlm"))


def test_a_second_encoder_is_read_from_a_folder(tiny_wavlm):
    encoder = load_xvector(tiny_wavlm)
    found = encoder.embed(recording(3))
    assert encoder.name.startswith("wavlm-")
    assert found.shape == (8,)
    assert np.linalg.norm(found) == pytest.approx(1)
    np.testing.assert_array_equal(found, encoder.embed(recording(3)))


def test_the_published_names_of_the_tensors_are_understood(tiny_wavlm):
    torch.manual_seed(0)
    network = WavLMForXVector(TINY).eval()
    audio = recording(3)
    extractor = Wav2Vec2FeatureExtractor()
    inputs = extractor(audio, sampling_rate=VOICE_RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = network(**inputs).embeddings[0].numpy()
    found = load_xvector(tiny_wavlm).embed(audio)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_folder_without_an_encoder_is_one_line(tmp_path, tiny_wavlm):
    with pytest.raises(UserError, match=r"no config\.json and no preprocessor_config\.json"):
        load_xvector(tmp_path)
    for path in tiny_wavlm.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"not a model")
    with pytest.raises(UserError, match="cannot load the speaker encoder") as caught:
        load_xvector(tmp_path)
    assert "\n" not in str(caught.value)
