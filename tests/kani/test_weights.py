"""Checkpoints are read as they were released, and nothing in them is run."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kani.codec import NanoCodecConfig
from kani.codec_weights import official_shapes, unfold
from kani.weights import load_codec, load_language_model, load_tokenizer, shapes_of
from tests.kani.golden import FOLDER, described, tensors
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json


def test_the_codecs_names_and_shapes_are_those_of_the_release():
    golden = {name: tuple(shape) for name, shape in described("keys")["nanocodec"].items()}
    assert official_shapes(NanoCodecConfig()) == golden


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_models_names_and_shapes_are_those_of_the_release(is_tied):
    golden = described("keys")
    found = shapes_of({**golden["config"], "vocab_size": 80538, "tie_word_embeddings": is_tied})
    assert found == {name: tuple(shape) for name, shape in golden["language_model"].items()}


@pytest.mark.parametrize("form", ["as released", "folded", "older names"])
def test_a_codec_is_read_from_safetensors_in_every_form(tmp_path, form):
    state = dict(tensors("codec_tiny_weights"))
    if form == "folded":
        state = {k: v.contiguous() for k, v in load_codec(FOLDER / GOLDEN).state_dict().items()}
    if form == "older names":
        state = {k.replace(".parametrizations.weight.original", ".weight_"): v
                 for k, v in state.items()}  # fmt: skip
        state = {k.replace("weight_0", "weight_g").replace("weight_1", "weight_v"): v
                 for k, v in state.items()}  # fmt: skip
    save_file(state, tmp_path / "codec.safetensors")
    codec = load_codec(tmp_path)
    golden = tensors("codec_tiny_io")
    assert torch.equal(codec.encode(golden["enc_audio"])[0], golden["enc_tokens"])


GOLDEN = "codec_tiny_weights.safetensors"


def test_a_codec_is_read_from_an_archive(miniature):
    codec = load_codec(miniature[1])
    assert codec.config == NanoCodecConfig.tiny()
    assert codec.name
    assert not codec.training


def test_what_nemo_needs_for_training_only_is_left_out(miniature, tmp_path):
    state = unfold(load_codec(miniature[1]).state_dict())
    state["discriminator.conv.weight"] = torch.zeros(3)
    path = archive(tmp_path, state, settings_of(miniature[1]))
    assert load_codec(path).config == NanoCodecConfig.tiny()


def test_an_archive_writes_nowhere_and_runs_nothing(miniature, tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (ran,))

    path = archive(tmp_path, {"x": Evil()}, settings_of(miniature[1]), prefix="../../../up")
    with pytest.raises(UserError, match="could run code"):
        load_codec(path)
    assert not ran.exists()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("cut", "truncated"),
        ("other activation", "audio_decoder.activation is snake"),
        ("tensor missing", "1 missing"),
        ("no weights", "no model_weights.ckpt"),
        ("text", "truncated, or no file of weights"),
        ("folder", "no codec"),
    ],
)
def test_a_broken_codec_is_refused_in_a_line(miniature, tmp_path, damage, words):
    settings, path = settings_of(miniature[1]), tmp_path / "broken.nemo"
    state = unfold(load_codec(miniature[1]).state_dict())
    if damage == "cut":
        path.write_bytes(miniature[1].read_bytes()[:500_000])
    elif damage == "other activation":
        settings["audio_decoder"]["activation"] = "snake"
        path = archive(tmp_path, state, settings)
    elif damage == "tensor missing":
        del state["audio_encoder.post_conv.conv.bias"]
        path = archive(tmp_path, state, settings)
    elif damage == "no weights":
        path = archive(tmp_path, None, settings)
    elif damage == "text":
        path.write_text("not a codec", encoding="utf-8")
    else:
        path = tmp_path
    with pytest.raises(UserError, match=words) as caught:
        load_codec(path)
    assert "\n" not in str(caught.value)


def test_a_language_model_keeps_its_rows_and_its_tie(miniature):
    model = load_language_model(miniature[0])
    assert model.config.vocab_size == 80538
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert load_tokenizer(miniature[0]).encode("a")[0] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "llama"}, "model_type is llama"),
        ({"vocab_size": 65536}, "65536 rows"),
        ("no weights", "no weights"),
        ("tensor missing", "1 tensors are missing"),
        ("no folder", "no such folder"),
    ],
)
def test_a_model_that_cannot_speak_is_refused(miniature, tmp_path, change, words):
    folder = tmp_path / "model"
    if change != "no folder":
        shutil.copytree(miniature[0], folder)
    if change == "no weights":
        (folder / "model.safetensors").unlink()
    elif change == "tensor missing":
        model = load_language_model(miniature[0])
        state = {k: v.contiguous() for k, v in model.state_dict().items()}
        del state["lm_head.weight"], state["model.layers.0.conv.in_proj.weight"]
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif isinstance(change, dict):
        write_json(folder / "config.json", {**read_json(folder / "config.json"), **change})
    with pytest.raises(UserError, match=words):
        load_language_model(folder)


def settings_of(path: Path) -> dict:
    import yaml

    with tarfile.open(path) as opened:
        data = opened.extractfile("./model_config.yaml")
        assert data is not None
        return yaml.safe_load(data.read())


def archive(folder: Path, state: object, settings: dict, prefix: str = ".") -> Path:
    """A `.nemo` file of these, under names that begin with `prefix`."""
    import yaml

    weights = io.BytesIO()
    torch.save(state, weights)
    members = {"model_config.yaml": yaml.safe_dump(settings).encode()}
    if state is not None:
        members["model_weights.ckpt"] = weights.getvalue()
    path = folder / "made.nemo"
    with tarfile.open(path, "w") as opened:
        for name, data in members.items():
            member = tarfile.TarInfo(f"{prefix}/{name}")
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return path
