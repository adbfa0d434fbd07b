"""Both formats give the same network, at the released size too; what doesn't fit is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.weights import (
    empty_model,
    load_model,
    native_name,
    native_tensors,
    original_name,
    shapes_of,
)
from tests.higgs_trainer.folders import write_native, write_original
from tests.higgs_trainer.golden import described, tensors
from ttscommon.errors import UserError

RELEASED = {"codebook_size": 1026}


def test_a_released_model_has_its_tensors_in_both_formats():
    keys = described("keys")
    shapes = {name: list(shape) for name, shape in shapes_of(RELEASED, text_head=True).items()}
    assert shapes == keys["native"]
    assert {name: native_name(name) for name in keys["original"]} == keys["original_to_native"]
    assert {native_name(name): shape for name, shape in keys["original"].items()} == shapes
    assert {original_name(name) for name in shapes} == set(keys["original"])
    model = empty_model(RELEASED, text_head=True)
    assert sum(p.numel() for p in model.parameters()) == keys["notes"]["params"] == 5_771_283_456


def test_the_class_default_of_the_codebooks_is_not_the_released_one():
    shapes = shapes_of({}, text_head=True)
    assert (
        list(shapes["audio_lm_head.weight"]) != described("keys")["native"]["audio_lm_head.weight"]
    )


@pytest.mark.parametrize("format_", ["original", "native"])
def test_either_format_gives_the_same_network(format_, request):
    checkpoint = HiggsCheckpoint.open(request.getfixturevalue(format_))
    assert checkpoint.format == format_
    model = load_model(checkpoint, text_head=True)
    expected = described("native_tensors")
    found = {
        name: [list(tensor.shape), hashlib.sha256(tensor.numpy().tobytes()).hexdigest()]
        for name, tensor in model.state_dict().items()
    }
    assert found == expected
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training


def test_without_a_text_head_the_rest_is_the_same(original):
    model = load_model(HiggsCheckpoint.open(original), text_head=False)
    assert model.text_lm_head is None
    assert set(model.state_dict()) == set(described("native_tensors")) - {"text_lm_head.weight"}


def test_tables_in_two_halves_are_put_together(original):
    parts = dict(tensors("model_original"))
    table = parts.pop("embed_tokens.weight")
    parts["embed_tokens.embedding_frozen.weight"] = table[:300]
    parts["embed_tokens.embedding_trainable.weight"] = table[300:]
    head = parts.pop("audio_decoder_proj.audio_lm_head.weight")
    parts["audio_decoder_proj.audio_lm_head.linear_frozen.weight"] = head[:500]
    parts["audio_decoder_proj.audio_lm_head.linear_trainable.weight"] = head[500:]
    parts["audio_codebook_weights"] = torch.ones(8)
    parts["rotary_emb.inv_freq"] = torch.ones(8)
    found = native_tensors(parts, original)
    assert set(found) == set(described("native_tensors"))
    assert torch.equal(found["model.embed_tokens.weight"], table)
    assert torch.equal(found["audio_lm_head.weight"], head)
    del parts["audio_decoder_proj.audio_lm_head.linear_frozen.weight"]
    with pytest.raises(UserError, match="only its trainable part"):
        native_tensors(parts, original)


def test_tensors_of_another_size_are_refused_by_name(tmp_path):
    folder = write_native(tmp_path, hidden_size=32)
    with pytest.raises(UserError, match="of another shape: model"):
        load_model(HiggsCheckpoint.open(folder), text_head=True)


def test_a_text_head_that_is_not_there_is_asked_for_in_vain(tmp_path):
    folder = write_native(tmp_path)
    path = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "text_lm_head" not in k}, path)
    with pytest.raises(UserError, match="--text-loss-weight 0"):
        load_model(HiggsCheckpoint.open(folder), text_head=True)


def test_missing_and_broken_files_are_named(tmp_path):
    folder = write_original(tmp_path)
    (folder / "model-2.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"truncated.*model-2"):
        load_model(HiggsCheckpoint.open(folder), text_head=True)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"missing: model-2.safetensors"):
        load_model(HiggsCheckpoint.open(folder), text_head=True)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match="no weights"):
        load_model(HiggsCheckpoint.open(folder), text_head=True)


def test_an_index_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    folder = write_original(tmp_path)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(UserError, match="missing"):
        load_model(HiggsCheckpoint.open(folder), text_head=True)


def test_weights_are_read_in_the_precision_that_is_asked_for(native: Path):
    model = load_model(HiggsCheckpoint.open(native), text_head=False, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
