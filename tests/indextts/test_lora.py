"""Adapters in peft's format become part of the base they belong to, and of no other."""

import dataclasses
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from indextts.config import DecodingConfig, GptConfig
from indextts.gpt.decoding import generate
from indextts.gpt.model import UnifiedVoice
from indextts.lora import Adapter, attach, merge, record_base
from indextts.weights import fingerprint
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json

TARGETS = ["attn.c_attn", "mlp.c_fc", "mel_head", "text_embedding"]


def base(seed: int = 0, **changes) -> UnifiedVoice:
    torch.manual_seed(seed)
    config = dataclasses.replace(GptConfig.tiny(), **changes)
    return UnifiedVoice(config).eval().requires_grad_(False)


@pytest.fixture
def folder(tmp_path):
    """What a trainer leaves: an adapter whose update isn't zero, and the name of its base."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS, init_lora_weights=False)
    model = base()
    record_base(tmp_path, model)
    peft.get_peft_model(model, config).save_pretrained(tmp_path)  # type: ignore[arg-type]
    return tmp_path


def logits(model: UnifiedVoice) -> torch.Tensor:
    return model.start(prefix(model))[0]


def merge_adapter(model: UnifiedVoice, folder: Path) -> Adapter:
    adapter = attach(model, folder)
    merge(model)
    return adapter


def prefix(model: UnifiedVoice):
    speaker = torch.linspace(-1, 1, 6 * 48).view(1, 6, 48)
    return model.prefix(speaker, speaker[:, 0], [[5, 6, 7]])


def test_a_merged_model_says_what_the_adapted_one_says(folder):
    adapted = peft.PeftModel.from_pretrained(base(), str(folder))  # type: ignore[arg-type]
    merged = base()
    adapter = merge_adapter(merged, folder)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert (logits(merged) - logits(adapted.get_base_model())).abs().max() < 1e-4
    greedy = DecodingConfig.greedy(max_mel_tokens=20)
    codes = [generate(m, prefix(m), greedy, [0])[0].codes.tolist() for m in (merged, base())]
    assert codes[0] != codes[1]
    assert (adapter.rank, adapter.n_layers) == (3, 6)
    assert adapter.mean_change > 0
    assert fingerprint(merged) != fingerprint(base())


def test_an_adapter_that_was_trained_on_the_originals_layers_is_merged_alike(folder):
    wanted = base()
    merge_adapter(wanted, folder)
    settings = read_json(folder / "adapter_config.json")
    # The original's transformer has Conv1D layers, for which peft writes this.
    write_json(folder / "adapter_config.json", {**settings, "fan_in_fan_out": True})
    found = base()
    merge_adapter(found, folder)
    assert torch.equal(logits(found), logits(wanted))


def test_an_untrained_adapter_is_pointed_out(tmp_path, caplog):
    config = peft.LoraConfig(r=2, target_modules=["attn.c_attn"])  # its update starts at zero
    peft.get_peft_model(base(), config).save_pretrained(tmp_path)  # type: ignore[arg-type]
    assert merge_adapter(base(), tmp_path).mean_change == 0
    assert "changes nothing" in caplog.text


def test_an_adapter_of_other_weights_is_refused(folder):
    with pytest.raises(UserError, match="trained on another base") as caught:
        merge_adapter(base(seed=2), folder)
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_width_is_refused(folder):
    (folder / "base.json").unlink()  # as adapters of other trainers
    with pytest.raises(UserError, match=r"another base: \d+ of 12 tensors have no place"):
        merge_adapter(base(model_dim=32), folder)


def test_an_adapter_of_more_layers_is_refused(folder):
    (folder / "base.json").unlink()
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    key = next(key for key in tensors if ".h.0." in key)
    save_file({**tensors, key.replace(".h.0.", ".h.7."): tensors[key].clone()}, path)
    with pytest.raises(UserError, match=r"1 of 13 tensors have no place in this one, gpt\.h\.7"):
        merge_adapter(base(), folder)


def test_an_adapter_that_lacks_weights_is_refused(folder):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if ".h.1.attn" not in k}, path)
    with pytest.raises(UserError, match="missing adapter keys") as caught:
        merge_adapter(base(), folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_incomplete_folder_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match="no LoRA adapter here"):
        merge_adapter(base(), folder)


def test_a_truncated_adapter_is_refused(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="truncated"):
        merge_adapter(base(), folder)


def test_a_broken_adapter_config_is_refused(folder):
    (folder / "adapter_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="broken JSON"):
        merge_adapter(base(), folder)
