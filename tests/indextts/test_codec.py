"""The semantic codec must choose the original's codes, every one."""

import pytest
import torch

from indextts.s2mel.codec import SemanticCodec
from indextts.s2mel.config import CodecConfig
from tests.indextts.acoustic_golden import furthest, golden, keys_of, official_keys

CASES = ["case0", "case1"]


@pytest.fixture(scope="module")
def codec():
    data = golden("semantic_codec_quantize")
    made = SemanticCodec(CodecConfig.from_official(data.settings["semantic_codec"])).eval()
    made.load_state_dict(data.weights())
    return made.requires_grad_(False)


@pytest.mark.parametrize("case", CASES)
def test_codes_are_the_originals_and_so_is_what_they_stand_for(codec, case):
    data = golden("semantic_codec_quantize")
    codes, quantised = codec.quantize(data[f"in.{case}.x"])
    assert codes.tolist() == data[f"out.{case}.codes"].long().tolist()
    assert furthest(quantised, data[f"out.{case}.quantized"]) < 2e-5


@pytest.mark.parametrize("case", CASES)
def test_the_encoder_equals_the_originals(codec, case):
    data = golden("semantic_codec_quantize")
    encoded = codec.encoder(data[f"in.{case}.x"]).transpose(1, 2)
    assert furthest(encoded, data[f"out.{case}.encoder"]) < 2e-5


@pytest.mark.parametrize("case", CASES)
def test_codes_are_embedded_as_in_the_original_without_the_encoder(codec, case):
    data = golden("semantic_codec_quantize")
    codes = data[f"out.{case}.codes"].long()
    small = SemanticCodec(CodecConfig.from_official(data.settings["semantic_codec"]))
    small.load_state_dict(codec.state_dict())
    small.encoder = small.decoder = None
    with torch.no_grad():
        embedded = small.embed(codes).transpose(1, 2)
    assert furthest(embedded, data[f"out.{case}.vq2emb"]) < 2e-5
    assert furthest(embedded[:1], data[f"out.{case}.vq2emb_infer_item0"]) < 2e-5
    with pytest.raises(ValueError, match="encoder was dropped"):
        small.quantize(data[f"in.{case}.x"])


def test_what_is_written_has_the_names_and_shapes_of_the_official_file():
    with torch.device("meta"):
        official = SemanticCodec(CodecConfig())
    assert keys_of(official) == official_keys("semantic_codec/model.safetensors")
