"""What is right and wrong in a checkpoint folder, told file by file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from indextts.s2mel.campplus import Campplus
from indextts.s2mel.config import CampplusConfig
from indextts.verification import verify_folder
from tools import download_checkpoints
from ttscommon.errors import UserError

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def folder(miniature: Path, tmp_path: Path) -> Path:
    """A miniature of one's own, to spoil."""
    return Path(shutil.copytree(miniature, tmp_path / "mine"))


def wrong_in(folder: Path) -> dict[str, str]:
    """Beside that it is a miniature."""
    wrong = {found.name: found.what for found in verify_folder(folder) if not found.is_right}
    wrong.pop("config.yaml", None)
    return wrong


def test_a_miniature_is_told_and_not_taken_for_the_official_release(miniature: Path) -> None:
    told = {found.name: found.what for found in verify_folder(miniature)}
    assert wrong_in(miniature) == {}
    assert "this is the miniature" in told["config.yaml"]
    assert list(told) == [
        "config.yaml",
        "gpt.pth",
        "s2mel.pth",
        "semantic_codec/model.safetensors",
        "campplus/campplus_cn_common.bin",
        "bigvgan/bigvgan_generator.pt",
        "feat1.pt, feat2.pt",
        "wav2vec2bert_stats.pt",
    ]
    assert "that fit config.yaml" in told["gpt.pth"]


def test_shapes_that_are_not_official_are_wrong(folder: Path) -> None:
    config = folder / "config.yaml"
    stated = config.read_text(encoding="utf-8")
    config.write_text(stated.replace("miniature: true", "miniature: false"), encoding="utf-8")
    assert wrong_in(folder).keys() == {
        "gpt.pth",
        "s2mel.pth",
        "semantic_codec/model.safetensors",
        "campplus/campplus_cn_common.bin",
        "bigvgan/bigvgan_generator.pt",
    }


def test_a_missing_tensor_is_named(folder: Path) -> None:
    path = folder / "semantic_codec" / "model.safetensors"
    tensors = load_file(path)
    del tensors["quantizer.quantizers.0.codebook.weight"]
    save_file(tensors, path)
    told = wrong_in(folder)["semantic_codec/model.safetensors"]
    assert "1 missing: quantizer.quantizers.0.codebook" in told


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    state = torch.load(folder / "gpt.pth", weights_only=True)["model"]
    state["mel_head.bias"] = state["mel_head.bias"][:-1]
    torch.save({"model": state}, folder / "gpt.pth")
    assert "1 of another shape: mel_head.bias" in wrong_in(folder)["gpt.pth"]


def test_a_cut_file_is_told_and_the_others_are_looked_at(folder: Path) -> None:
    whole = (folder / "s2mel.pth").read_bytes()
    (folder / "s2mel.pth").write_bytes(whole[: len(whole) // 2])
    assert set(wrong_in(folder)) == {"s2mel.pth"}


def test_statistics_of_other_features_are_refused(folder: Path) -> None:
    torch.save({"mean": torch.zeros(3), "var": torch.ones(3)}, folder / "wav2vec2bert_stats.pt")
    assert "found {'mean': [3], 'var': [3]}" in wrong_in(folder)["wav2vec2bert_stats.pt"]


def test_missing_files_are_one_line(folder: Path) -> None:
    (folder / "bpe.model").unlink()
    (folder / "feat1.pt").unlink()
    [(_, what)] = wrong_in(folder).items()
    assert "2 missing: feat1.pt, bpe.model" in what


def test_official_names_and_shapes_are_recognised(folder: Path) -> None:
    path = folder / "campplus" / "campplus_cn_common.bin"
    torch.save(Campplus(CampplusConfig()).state_dict(), path)
    told = {found.name: found.what for found in verify_folder(folder)}
    assert told[str(path.relative_to(folder))] == "937 tensors with the official names and shapes"


def test_the_download_tool_looks_into_every_file_without_a_network(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.rename(tmp_path / "indextts2")
    words = ["indextts2", "--verify", "--output-dir", str(tmp_path), "--endpoint", NOBODY]
    words += ["--skip", "qwen*"]
    with pytest.raises(UserError, match=r"1 files are wrong: config\.yaml"):
        download_checkpoints.main(words)
    said = capsys.readouterr().out
    assert "no checksum to compare it with" in said
    assert "gpt.pth: " in said
    (tmp_path / "indextts2" / "gpt.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"2 files are wrong: config\.yaml, gpt\.pth"):
        download_checkpoints.main(words)
