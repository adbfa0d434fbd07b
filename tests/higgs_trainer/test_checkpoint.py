"""What a folder says about itself is followed, told, and not to be contradicted."""

from __future__ import annotations

import json

import pytest

from higgs_trainer.checkpoint import HiggsCheckpoint, Wishes
from tests.higgs_trainer.folders import write_native, write_original
from tests.higgs_trainer.golden import STREAMS, described
from ttscommon.errors import UserError


def test_an_original_configuration_says_the_same_as_the_native_one(original):
    found = HiggsCheckpoint.open(original)
    expected = dict(described("native_config"))
    network = dict(found.network)
    # Other numbers for the same frequencies: 8192 / 1 = 1024 / 0.125, 8192 / 4 = 1024 / 0.5.
    network.pop("rope_parameters"), expected.pop("rope_parameters")
    network.pop("max_position_embeddings"), expected.pop("max_position_embeddings")
    ours = {name: network.get(name) for name in expected if name in network}
    assert ours == {name: expected[name] for name in ours}
    assert set(expected) - set(ours) <= {"attention_bias", "mlp_bias", "bos_token_id"}
    assert found.streams == STREAMS


def test_the_report_tells_what_the_checkpoint_is_used_for(original, native):
    assert "original" in HiggsCheckpoint.open(original).report()[0]
    lines = HiggsCheckpoint.open(native).report()
    assert "native" in lines[0]
    assert "8 codebooks of 64 codes" in lines[1]
    assert "delay pattern on" in lines[1]
    assert "no Whisper" in lines[2]


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [(Wishes(whisper=True), "no audio tower"), (Wishes(delay_pattern=False), "delay pattern")],
)
@pytest.mark.parametrize("format_", ["original", "native"])
def test_wishes_that_contradict_the_checkpoint_are_refused(format_, wishes, reason, request):
    folder = request.getfixturevalue(format_)
    with pytest.raises(UserError, match=reason):
        HiggsCheckpoint.open(folder, wishes)


def test_wishes_that_agree_with_the_checkpoint_are_granted(original):
    HiggsCheckpoint.open(original, Wishes(whisper=False, delay_pattern=True))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"skip_audio_tower": False}, "audio tower"),
        ({"encode_whisper_embed": True}, "audio tower"),
        ({"use_delay_pattern": False}, "without the delay pattern"),
        ({"encode_audio_in_tokens": False}, "without their codes"),
        ({"audio_dual_ffn_layers": [0, 2]}, "only 2 of 3 layers"),
        ({"audio_adapter_type": "stack"}, "audio path"),
        ({"audio_embed_avg": True}, "averages"),
        ({"use_rq_transformer": True}, "transformer of their own"),
    ],
)
def test_models_without_a_native_network_are_refused(tmp_path, changes, reason):
    with pytest.raises(UserError, match=reason):
        HiggsCheckpoint.open(write_original(tmp_path, **changes))


def test_incomplete_configurations_are_refused(tmp_path):
    folder = write_original(tmp_path)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["use_delay_pattern"], config["text_config"]["hidden_size"]
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"no text_config.hidden_size, use_delay_pattern"):
        HiggsCheckpoint.open(folder)


def test_a_native_configuration_must_count_the_marks_of_a_stream(tmp_path):
    with pytest.raises(UserError, match="codebook_size is 64"):
        HiggsCheckpoint.open(write_native(tmp_path, codebook_size=64))


def test_other_models_and_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        HiggsCheckpoint.open(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="model_type is llama"):
        HiggsCheckpoint.open(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="broken JSON"):
        HiggsCheckpoint.open(tmp_path)
