"""A codec in its original format computes what the original program computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from higgs_trainer.codec import Codec, load_codec
from higgs_trainer.codec_weights import native_tensors, network_of
from tests.higgs_trainer.original_codec import (
    LENGTHS,
    described,
    expected,
    sound,
    write_original_codec,
)
from ttscommon.errors import UserError
from ttscommon.tensors import build


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> Codec:
    return load_codec(write_original_codec(tmp_path_factory.mktemp("original")))


def test_every_tensor_of_the_released_codec_has_its_place():
    from transformers import HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel

    released = described()["released"]
    tensors = {
        name: torch.empty(shape, device="meta") for name, shape in released["shapes"].items()
    }
    network = network_of(released["config"], tensors, Path("config.json"))
    assert network["semantic_model_config"]["num_attention_heads"] == 12
    config = HiggsAudioV2TokenizerConfig(**network)
    assert (config.hop_length, config.frame_rate, config.num_quantizers) == (960, 25, 8)
    model = build(  # refuses tensors that are missing, left over, or of another shape
        lambda: HiggsAudioV2TokenizerModel(config),
        native_tensors(tensors),
        where=Path("model.pth"),
        device="meta",
    )
    assert len(model.state_dict()) == 527


def test_its_codes_and_sounds_are_those_of_the_original_program(codec):
    for n_samples in LENGTHS:
        codes, wave = (expected()[f"{kind}.{n_samples}"] for kind in ("codes", "sound"))
        assert torch.equal(codec.encode(sound(n_samples)), codes.long())
        spoken = torch.from_numpy(codec.decode(codes.long()))
        torch.testing.assert_close(spoken, wave, rtol=1e-4, atol=1e-5 * float(wave.abs().max()))
    assert codec.report() == (
        "codec: 24000 Hz, a frame each 960 samples (25 a second), 8 codebooks of 64 codes"
    )


def without(*names: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: [tensors.pop(name) for name in names] and None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("encoder.block.0.bias"), "lack 'encoder.block.0.bias'"),
        (without("fc_prior.bias"), "fc.bias"),
        (lambda tensors: tensors.update(strange=torch.zeros(1)), "strange"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, reason):
    folder = write_original_codec(tmp_path)
    tensors = torch.load(folder / "model.pth", weights_only=True)
    change(tensors)
    torch.save(tensors, folder / "model.pth")
    with pytest.raises(UserError, match=reason):
        load_codec(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"semantic_techer": "wavlm_base_plus"}, "no network for a codec of 'wavlm_base_plus'"),
        ({"bins": [8, 5, 5]}, r"codebooks of \[8, 5, 5\]"),
        ({"codebook_dim": None}, "no codebook_dim"),
    ],
)
def test_other_codecs_of_the_original_program_are_refused(tmp_path, changes, reason):
    with pytest.raises(UserError, match=reason):
        load_codec(write_original_codec(tmp_path, **changes))


def test_nothing_but_tensors_is_read_of_a_file(tmp_path):
    folder = write_original_codec(tmp_path)
    torch.save({"fc_prior.bias": Path("x").exists}, folder / "model.pth")
    with pytest.raises(UserError):
        load_codec(folder)
