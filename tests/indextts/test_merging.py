"""A merged checkpoint is the adapter and its base, under the official names."""

from __future__ import annotations

import json
import re
import shlex
from types import SimpleNamespace

import peft
import pytest
import torch

from indextts import merging, weights
from indextts.checkpoint import CheckpointFolder
from indextts.config import DecodingConfig
from indextts.dataset import PairedPlan, read_clips
from indextts.gpt.decoding import generate
from indextts.gpt.model import UnifiedVoice, VoiceBatch
from indextts.lora import attach, merge
from indextts.merging import merge_checkpoint
from indextts.utils.lora_utils import merge_lora_weights
from tests.indextts.gpt_golden import FOLDER
from tests.indextts.gpt_training import prepared
from tests.indextts.speakers import language_model, write_adapter
from tools import merge_lora
from ttscommon.errors import UserError
from ttscommon.lora import set_scale


@pytest.fixture(scope="module")
def adapter(miniature, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    write_adapter(miniature, folder, strength=0.3)
    return folder


def adapted(miniature, adapter, scale: float = 1.0) -> UnifiedVoice:
    gpt = language_model(miniature)
    attach(gpt, adapter, scale)
    return gpt


def batch(tmp_path, miniature) -> VoiceBatch:
    plan = PairedPlan(read_clips(prepared(tmp_path, miniature).train), batch_size=6)
    return plan.load(plan.epoch(0)[0]).voiced()


@torch.no_grad()
def said(gpt: UnifiedVoice, batch: VoiceBatch) -> tuple[torch.Tensor, list[list[int]]]:
    """All logits of a batch, and greedy codes of each row."""
    greedy = DecodingConfig.greedy(max_mel_tokens=40)
    rows = []
    for row in range(len(batch.text)):
        text = batch.text[row, : batch.text_lengths[row]].tolist()
        told = batch.speaker[row : row + 1], batch.emotion[row : row + 1]
        rows.append(generate(gpt, gpt.prefix(*told, [text]), greedy, [0])[0].codes.tolist())
    output = gpt(batch)
    return torch.cat([output.mel_logits.flatten(), output.text_logits.flatten()]), rows


@pytest.mark.parametrize("name", ["merged.pth", "my merged.safetensors"])
def test_what_the_tool_merges_says_what_the_adapter_says(
    miniature, adapter, tmp_path, capsys, name
):
    words = ["--lora-path", str(adapter), "--model-dir", str(miniature), "--verify"]
    merge_lora.main([*words, "--output", str(tmp_path / name), "--lora-scale", "0.5"])
    printed = capsys.readouterr().out
    assert "Proven: logits of adapter and merged model differ by" in printed
    command = shlex.split(printed.splitlines()[-1].removeprefix("Next: "))
    assert str(tmp_path / name) in command
    sizes, tensors = CheckpointFolder.open(miniature).config.gpt, batch(tmp_path, miniature)
    logits, codes = said(weights.load_gpt(tmp_path / name, sizes), tensors)
    wanted_logits, wanted_codes = said(adapted(miniature, adapter, 0.5), tensors)
    base_logits, base_codes = said(language_model(miniature), tensors)
    assert float((logits - wanted_logits).abs().max()) < 1e-3
    assert codes == wanted_codes
    assert float((base_logits - wanted_logits).abs().max()) > 0.1
    assert base_codes != wanted_codes


def test_plain_peft_and_the_merged_model_say_the_same(miniature, adapter, tmp_path):
    base = language_model(miniature)
    plain = peft.PeftModel.from_pretrained(base, str(adapter)).get_base_model()  # type: ignore[arg-type]
    output = tmp_path / "merged.pth"
    folder = CheckpointFolder.open(miniature)
    found = merge_checkpoint(folder.gpt, folder.config.gpt, adapter, output)
    merged, tensors = weights.load_gpt(output, folder.config.gpt), batch(tmp_path, miniature)
    (logits, codes), (wanted_logits, wanted_codes) = said(merged, tensors), said(plain, tensors)  # type: ignore[arg-type]
    assert float((logits - wanted_logits).abs().max()) < 1e-3
    assert codes == wanted_codes
    assert found.difference is not None
    assert found.difference < 1e-3
    assert found.fingerprint == weights.fingerprint(merged)


def test_its_tensors_bear_the_official_names(miniature, adapter, tmp_path):
    folder = CheckpointFolder.open(miniature)
    merge_checkpoint(folder.gpt, folder.config.gpt, adapter, tmp_path / "merged.pth")
    stored = torch.load(tmp_path / "merged.pth", weights_only=True)
    assert stored.keys() == {"model"}
    before = torch.load(folder.gpt, weights_only=True)
    before = before.get("model", before)
    shapes = {key: tensor.shape for key, tensor in stored["model"].items()}
    assert shapes == {key: before[key].shape for key in shapes}
    official = json.loads((FOLDER / "gpt_keys.json").read_text(encoding="utf-8"))["shapes"]
    assert names(shapes) == names(official)


def names(keys) -> set[str]:
    """Without the numbers of layers, of which the miniature has fewer."""
    return {re.sub(r"\.\d+\.", ".*.", re.sub(r"\.\d+\.", ".*.", key)) for key in keys}


@pytest.mark.parametrize("wrong", [0.0, 0.98])
def test_a_merge_that_goes_wrong_is_not_written(miniature, adapter, tmp_path, monkeypatch, wrong):
    right = merging.merge

    def weaker(gpt):
        set_scale(gpt, wrong)
        right(gpt)

    monkeypatch.setattr(merging, "merge", weaker)
    folder, output = CheckpointFolder.open(miniature), tmp_path / "merged.pth"
    with pytest.raises(UserError, match="the merged model isn't the adapted one: logits differ by"):
        merge_checkpoint(folder.gpt, folder.config.gpt, adapter, output)
    assert list(tmp_path.iterdir()) == []


def test_what_is_read_back_otherwise_leaves_the_old_file(miniature, adapter, tmp_path, monkeypatch):
    folder, output = CheckpointFolder.open(miniature), tmp_path / "merged.pth"
    output.write_bytes(b"mine")

    def damaged(path, gpt):
        weights.save_gpt(path, language_model(miniature))

    faulty = SimpleNamespace(**{**vars(weights), "save_gpt": damaged})
    monkeypatch.setattr(merging, "weights", faulty)
    with pytest.raises(UserError, match="isn't what is read"):
        merge_checkpoint(folder.gpt, folder.config.gpt, adapter, output, overwrite=True)
    assert output.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [output]


def test_merged_weights_pass_for_no_file(miniature, adapter):
    gpt = adapted(miniature, adapter)
    base = weights.fingerprint(gpt)
    merge(gpt)
    assert gpt.file_fingerprint is None
    assert weights.fingerprint(gpt) != base


def test_merging_from_python_replaces_nothing_unasked(miniature, adapter, tmp_path):
    output = tmp_path / "merged.pth"
    output.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        merge_lora_weights(adapted(miniature, adapter), output)
    assert output.read_bytes() == b"mine"
    merge_lora_weights(adapted(miniature, adapter), output, overwrite=True)
    assert torch.load(output, weights_only=True).keys() == {"model"}


def test_an_adapter_without_effect_is_refused(miniature, tmp_path):
    write_adapter(miniature, tmp_path / "idle", strength=0)
    folder, output = CheckpointFolder.open(miniature), tmp_path / "merged.pth"
    with pytest.raises(UserError, match="changes nothing"):
        merge_checkpoint(folder.gpt, folder.config.gpt, tmp_path / "idle", output)
    assert not output.exists()


def test_a_speakers_adapter_is_the_one_that_speaks(trained, miniature, tmp_path, capsys):
    speaker = trained.speaker("ozzy", tmp_path, "lora")
    write_adapter(miniature, speaker.lora.best_audio, seed=3)
    words = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--model-dir", str(miniature)]
    merge_lora.main([*words, "--output", str(tmp_path / "a.pth"), "--no-verify"])
    printed = capsys.readouterr().out
    assert f"Merged {speaker.lora.best_audio}" in printed
    assert "Proven" not in printed


def test_bad_input_is_told_before_anything_is_read(miniature, adapter, tmp_path):
    (tmp_path / "mine.pth").write_text("mine")
    words = ["--lora-path", str(adapter), "--model-dir", str(miniature), "--output"]
    with pytest.raises(UserError, match="exists already"):
        merge_lora.main([*words, str(tmp_path / "mine.pth")])
    with pytest.raises(UserError, match=r"named \.pth or \.safetensors"):
        merge_lora.main([*words, str(tmp_path / "mine.bin")])
    with pytest.raises(UserError, match="which adapter"):
        merge_lora.main(["--output", str(tmp_path / "a.pth")])
    with pytest.raises(UserError, match="no LoRA adapter here"):
        merge_lora.main(["--speaker", "ozzy", "--training-root", str(tmp_path), *words[2:],
                         str(tmp_path / "a.pth")])  # fmt: skip
    assert (tmp_path / "mine.pth").read_text() == "mine"
