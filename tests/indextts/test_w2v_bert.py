"""Features of w2v-bert must be those of the whole model's 17th layer."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

from indextts.checkpoint import CheckpointFolder
from indextts.frontend.w2v_bert import MIN_SAMPLES, W2vBert
from indextts.tensors import read_tensors
from ttscommon.errors import UserError


@pytest.fixture(scope="module")
def folder(miniature):
    return CheckpointFolder.open(miniature)


@pytest.fixture(scope="module")
def cut(folder):
    return W2vBert.from_folder(folder.w2v_bert, folder.w2v_stat)


def noise(n_samples: int) -> torch.Tensor:
    return torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0)) / 10


def whole_model(folder) -> Wav2Vec2BertModel:
    settings = json.loads((folder.w2v_bert / "config.json").read_text(encoding="utf-8"))
    model = Wav2Vec2BertModel(Wav2Vec2BertConfig(**settings)).eval()
    model.load_state_dict(read_tensors(folder.w2v_bert / "model.safetensors"))
    return model


@torch.no_grad()
def test_seventeen_layers_give_what_the_deeper_model_gives_there(folder, cut):
    audio, whole = noise(32_128), whole_model(folder)
    assert len(whole.encoder.layers) == 18
    assert len(cut.model.encoder.layers) == 17
    extractor = SeamlessM4TFeatureExtractor.from_pretrained(folder.w2v_bert)
    inputs = extractor(audio[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    hidden = whole(**inputs, output_hidden_states=True).hidden_states
    stats = torch.load(folder.w2v_stat, weights_only=True)
    expected = (hidden[17] - stats["mean"]) / stats["var"].sqrt()
    assert torch.equal(cut(audio), expected)
    assert not torch.allclose(hidden[17], hidden[16])


def test_a_frame_of_padding_at_the_end_is_kept_as_in_the_original(cut):
    # 2.008 s: 199 frames of 10 ms, 100 pairs of which the last is half padding
    assert cut(noise(32_128)).shape == (1, 100, 24)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(MIN_SAMPLES, 3), (240_000, 749)])
def test_there_are_fifty_features_a_second(cut, n_samples, n_frames):
    features = cut(noise(n_samples))
    assert features.shape == (1, n_frames, 24)
    assert features.dtype == torch.float32
    assert features.isfinite().all()


def test_silence_has_finite_features(cut):
    assert cut(torch.zeros(1, 16_000)).isfinite().all()


def test_too_short_a_reference_is_refused(cut):
    with pytest.raises(UserError, match="at least 65 are needed"):
        cut(noise(MIN_SAMPLES - 1))


def test_the_files_last_layer_and_what_is_for_training_only_are_not_read(folder, cut):
    stored = read_tensors(folder.w2v_bert / "model.safetensors")
    assert "masked_spec_embed" in stored
    read = cut.model.state_dict()
    assert set(stored) - set(read) == {"masked_spec_embed"} | {
        key for key in stored if key.startswith("encoder.layers.17.")
    }
    assert all(torch.equal(value, stored[key]) for key, value in read.items())


def test_half_precision_gives_nearly_the_same_in_float32(folder, cut):
    half = W2vBert.from_folder(folder.w2v_bert, folder.w2v_stat, dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    features, exact = half(noise(16_000)), cut(noise(16_000))
    assert features.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(features, exact, dim=-1).mean() > 0.98


def test_a_folder_that_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="18 layers, but the 19th is to be read"):
        W2vBert.from_folder(folder.w2v_bert, folder.w2v_stat, n_layers=19)
    with pytest.raises(UserError, match=r"no config.json of w2v-bert"):
        W2vBert.from_folder(tmp_path, folder.w2v_stat)
    torch.save({"mean": torch.ones(3), "var": torch.ones(3)}, tmp_path / "stats.pt")
    with pytest.raises(UserError, match=r"expected mean and var of \[24\], found"):
        W2vBert.from_folder(folder.w2v_bert, tmp_path / "stats.pt")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("n_bytes", [0, 20])
def test_a_cut_settings_file_is_told_before_the_weights_are_read(folder, tmp_path, name, n_bytes):
    copy = Path(shutil.copytree(folder.w2v_bert, tmp_path / "w2v-bert"))
    (copy / name).write_bytes((copy / name).read_bytes()[:n_bytes])
    (copy / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(UserError, match=rf"cannot read.*{name}.*Fix: delete it") as caught:
        W2vBert.from_folder(copy, folder.w2v_stat)
    assert "\n" not in str(caught.value)
