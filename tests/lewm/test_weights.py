import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lewm.config import ModelConfig
from lewm.model import LeWMTTS
from lewm.weights import CheckpointInfo, init_from, load, save
from ttscommon.errors import UserError
from ttscommon.mel import MelRecipe

SMALLEST = dataclasses.replace(
    ModelConfig.tiny(),
    width=16,
    ff_dim=16,
    n_text_layers=1,
    n_predictor_layers=1,
    encoder_dim=16,
    encoder_ff_dim=16,
    n_encoder_layers=1,
    decoder_dim=16,
)
INFO = CheckpointInfo(step=7, frames_per_byte=1.5, max_text_bytes=99, metrics={"mel_dtw": 0.4})


def build(seed: int = 0, recipe: MelRecipe | None = None, **changes: object) -> LeWMTTS:
    torch.manual_seed(seed)
    model = LeWMTTS(dataclasses.replace(SMALLEST, **changes), recipe or MelRecipe()).eval()
    model.set_mel_statistics(-2.3, 3.9)
    model.set_latent_statistics(torch.randn(32), torch.rand(32) + 0.5)
    return model


def said(model: LeWMTTS, speaker: int | None = None) -> torch.Tensor:
    """Everything the model does with a fixed text and mel, in one row of numbers."""
    torch.manual_seed(9)
    ids, mask = torch.tensor([[257, 98, 99, 258]]), torch.ones(1, 4, dtype=torch.bool)
    rows = None if speaker is None else torch.tensor([speaker])
    mel_mask = torch.ones(1, 12, dtype=torch.bool)
    latents = model.encode(torch.randn(1, 100, 12), mel_mask)
    hidden = model.predictor(latents, model.text_encoder(ids, mask, rows), mask).hidden
    head = model.predictor.head.sample(hidden[:, 0], torch.ones(1, 32), 0.6)
    return torch.cat([x.flatten() for x in (latents, hidden, head, model.decode(latents))])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "best", build(), INFO)
    return tmp_path / "best"


def edit(folder: Path, change) -> None:
    path = folder / "config.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize("head", ["mse", "flow"])
def test_a_reloaded_model_says_the_same_bit_for_bit(tmp_path, head):
    model = build(head=head, speakers=("ann", "bob"))
    save(tmp_path / "x", model, INFO)
    again, info = load(tmp_path / "x")
    assert torch.equal(said(model), said(again))
    assert not again.training
    assert info == INFO
    assert again.config == model.config
    assert again.recipe == model.recipe
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["config.json", "model.safetensors", "x"]


def test_reading_a_checkpoint_moves_no_randomness(folder):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load(folder)
    assert torch.equal(torch.rand(2), expected)


def test_saving_again_replaces_the_old_one(folder):
    newer = build(seed=1)
    save(folder, newer, dataclasses.replace(INFO, step=8))
    again, info = load(folder)
    assert info.step == 8
    assert torch.equal(said(again), said(newer))


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated or damaged"):
        load(folder)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"no such file.*config\.json"):
        load(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no such file"):
        load(folder)


def test_weights_of_another_preset_are_refused(folder, tmp_path):
    save(tmp_path / "wide", build(ff_dim=32), INFO)
    (tmp_path / "wide" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(UserError, match=r"another preset: .*\[32\], expected \[16\]") as caught:
        load(folder)
    assert "must come from the same checkpoint" in str(caught.value)


def test_a_missing_tensor_is_named(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["predictor.begin"]
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"predictor\.begin: none, expected \[16\]"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="kani"), "expected a voxtune.lewm file, found kani"),
        (lambda d: d.update(version=2), "checkpoint version 2, this program reads 1"),
        (lambda d: d.pop("mel"), "no mel in the checkpoint"),
        (lambda d: d["model"].update(widht=3), "unknown setting 'widht'.*did you mean 'width'"),
        (lambda d: d["mel"].update(hop_length=300), "mel settings were changed"),
        (lambda d: d["mel"].update(n_mels="many"), "bad setting"),
    ],
)
def test_a_config_that_cannot_be_right_is_refused(folder, change, message):
    edit(folder, change)
    with pytest.raises(UserError, match=message):
        load(folder)


def test_fine_tuning_starts_with_the_same_weights_and_statistics(folder):
    model = build(seed=1, dropout=0.3)
    lines = init_from(model, folder)
    assert torch.equal(said(model), said(load(folder)[0]))
    assert lines == [f"starting from {folder} (step 7)"]


def test_speakers_are_matched_by_name_and_new_ones_start_from_the_mean(tmp_path):
    base = build(speakers=("ann", "bob"))
    save(tmp_path / "base", base, INFO)
    model = build(seed=1, speakers=("cleo", "bob"))
    lines = init_from(model, tmp_path / "base")
    old, new = base.text_encoder.speakers.weight, model.text_encoder.speakers.weight
    assert torch.equal(new[1], old[1])
    torch.testing.assert_close(new[0], old.mean(0))
    assert torch.equal(said(model, 1), said(base, 1))
    assert lines[1:] == [
        "speakers: cleo starts from the mean of ann, bob",
        "speakers: ann left out",
    ]


def test_new_rows_of_a_base_without_a_table_start_from_the_base_voice(folder):
    model = build(seed=1, languages=("en", "hi"))
    assert init_from(model, folder)[1:] == ["languages: en, hi starts from the base's own voice"]
    assert torch.equal(said(model, 0), said(load(folder)[0]))


def test_a_model_without_speakers_takes_the_mean_of_the_bases(tmp_path):
    base = build(speakers=("ann", "bob"))
    with torch.no_grad():  # two equal speakers, so that their mean is a voice to compare with
        base.text_encoder.speakers.weight[1] = base.text_encoder.speakers.weight[0]
    save(tmp_path / "base", base, INFO)
    model = build(seed=1, speakers=("cleo",))
    lines = init_from(model, tmp_path / "base")
    assert lines[1:] == ["speakers: the mean of ann, bob is built in"]
    torch.testing.assert_close(said(model), said(base))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ff_dim": 32}, r"other sizes: ff_dim: 16 -> 32.*--preset tiny"),
        ({"head": "flow"}, "head: mse -> flow"),
        ({"text_form": "ipa"}, "text_form: bytes -> ipa"),
        ({"recipe": MelRecipe(f_max=8000.0)}, "mels were made differently: f_max: None -> 8000.0"),
    ],
)
def test_a_base_of_another_kind_is_refused_and_nothing_changes(folder, changes, message):
    model = build(seed=1, **changes)
    before = said(model)
    with pytest.raises(UserError, match=message):
        init_from(model, folder)
    assert torch.equal(said(model), before)
