"""The codec has its own ratios, fits its model, and comes from safe files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from higgs_trainer.codec import load_codec
from higgs_trainer.config import Streams
from ttscommon.errors import UserError

STREAMS = Streams(n_codebooks=8, n_codes=64, begin_id=64, end_id=65)


def noise(n_samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)


def test_a_frame_takes_what_its_ratios_say(miniature):
    codec = load_codec(miniature[1])
    assert (codec.sample_rate, codec.hop_length, codec.frame_rate) == (24000, 960, 25.0)
    assert "8 codebooks of 64 codes" in codec.report()
    for n_samples, n_steps in ((12345, 13), (24001, 25), (961, 1)):
        codes = codec.encode(noise(n_samples))
        assert codes.shape == (8, n_steps)
        assert codec.decode(codes).shape == (960 * n_steps,)
    assert len(codec.encode(noise(48000)).unique()) > 10
    assert codec.encode(noise(24000)).equal(codec.encode(noise(24000)))
    codec.require_fit(STREAMS)


def test_a_codec_of_another_model_is_refused(miniature):
    with pytest.raises(UserError, match=r"8 codebooks of 64 codes, the model 8 of 1024"):
        load_codec(miniature[1]).require_fit(Streams())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"n_q": 8, "ratios": [8, 5], "semantic_techer": "hubert_base"}, "no weights of the codec"),
        ({"model_type": "dac"}, "no codec of Higgs Audio"),
        ({"model_type": "higgs_audio_v2_tokenizer"}, "75 frames"),
    ],
)
def test_other_formats_and_other_codecs_are_refused(tmp_path, config, reason):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=reason):
        load_codec(tmp_path)


def test_missing_and_broken_weights_are_told(miniature, tmp_path):
    folder = shutil.copytree(miniature[1], tmp_path / "codec")
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="no usable codec"):
        load_codec(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights of the codec"):
        load_codec(folder)


def test_the_name_of_a_codec_changes_with_its_settings(miniature, tmp_path):
    folder = shutil.copytree(miniature[1], tmp_path / "codec")
    assert load_codec(folder).name == load_codec(miniature[1]).name
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "target_bandwidths": [0.6, 1.2]}))
    assert load_codec(folder).name != load_codec(miniature[1]).name
