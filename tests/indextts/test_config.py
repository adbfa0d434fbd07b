"""Settings of IndexTTS2."""

import pytest

from indextts.config import DecodingConfig, GptConfig
from ttscommon.config import from_dict, to_dict
from ttscommon.errors import UserError

# The `gpt` section of the official config.yaml of version 2.0.
OFFICIAL = {
    "model_dim": 1280,
    "max_mel_tokens": 1815,
    "max_text_tokens": 600,
    "heads": 20,
    "use_mel_codes_as_input": True,
    "mel_length_compression": 1024,
    "layers": 24,
    "number_text_tokens": 12000,
    "number_mel_codes": 8194,
    "start_mel_token": 8192,
    "stop_mel_token": 8193,
    "start_text_token": 0,
    "stop_text_token": 1,
    "train_solo_embeddings": False,
    "condition_type": "conformer_perceiver",
    "condition_module": {
        "output_size": 512,
        "linear_units": 2048,
        "attention_heads": 8,
        "num_blocks": 6,
        "input_layer": "conv2d2",
        "perceiver_mult": 2,
    },
    "emo_condition_module": {
        "output_size": 512,
        "linear_units": 1024,
        "attention_heads": 4,
        "num_blocks": 4,
        "input_layer": "conv2d2",
        "perceiver_mult": 2,
    },
}


def test_the_official_file_gives_the_default_sizes():
    assert GptConfig.from_official(OFFICIAL) == GptConfig()


def test_sizes_survive_a_round_trip_through_plain_data():
    config = GptConfig.tiny()
    assert from_dict(GptConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"condition_type": "gst"}, "condition_type: gst"),
        ({"model_dims": 12}, "did you mean 'model_dim'"),
        ({"heads": 7}, "must divide by heads"),
        ({"stop_mel_token": 9000}, "mel token 9000"),
    ],
)
def test_a_file_of_another_model_is_refused(change, complaint):
    with pytest.raises(UserError, match=complaint):
        GptConfig.from_official({**OFFICIAL, **change})


@pytest.mark.parametrize(
    "change",
    [{"num_beams": 0}, {"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"typical_mass": 2.0}],
)
def test_impossible_decoding_is_refused(change):
    with pytest.raises(UserError, match=next(iter(change))):
        DecodingConfig(**change)
