"""Embeddings of speakers from recordings and data sets to trained models that speak."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from kani.checking import check
from kani.config import DatasetConfig, PrepareConfig, SourceConfig
from kani.config_files import as_written
from kani.inference import KaniVoice
from kani.outputs import EXPERIMENT_FILE, FORMAT
from kani.prepared import prepare
from kani.preprocess import VOICE_FILE
from kani.preprocess import prepare as prepare_clips
from kani.projection import PROJECTION
from kani.references import References
from kani.sampling import Sampling
from kani.sources import Source
from kani.speaker_embedding import load_encoder, read_embedding
from kani.speaking import Booth, Line
from kani.tokens import TokenSpace
from kani.train import train
from kani.weights import load_tokenizer
from tests.kani.made_up import TEXTS, rows, saved
from tests.kani.made_up_jobs import MODEL, SPACE, data_of, experiment, few_codes, job_of
from tests.kani.made_up_speakers import DIM, embeddings, with_projection, write_encoder
from tools.kani_infer import main as infer
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.files import write_json
from ttscommon.ledger import Ledger
from ttscommon.workspace import Speaker

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "kani"


@pytest.fixture(scope="module")
def second(base, tmp_path_factory):
    return with_projection(base, tmp_path_factory.mktemp("second") / "model")


@pytest.fixture(scope="module")
def talking(miniature, tmp_path_factory):
    """A model with all ids that takes embeddings, and a codec."""
    folder = with_projection(miniature[0], tmp_path_factory.mktemp("talking") / "model")
    return folder, miniature[1]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tbr")


def config_of(*folders, **changes) -> DatasetConfig:
    named = {"language_tag": "EN_us", "speaker_emb": "grouped_sp_emb", **changes}
    sources = tuple(SourceConfig(reponame=str(folder), **named) for folder in folders)
    return DatasetConfig(hf_datasets=sources, n_shards_per_dataset=1, validation_share=0.2)


def codes_with(folder, found, **columns):
    return saved(folder, len(found), **few_codes(len(found)), grouped_sp_emb=found, **columns)


@pytest.fixture(scope="module")
def data(second, tmp_path_factory):
    """Clips of two speakers by turns."""
    folder, two = tmp_path_factory.mktemp("data"), embeddings(2).tolist()
    codes = codes_with(folder / "codes", two * 4, speaker=["anna", "bruno"] * 4)
    return prepare(config_of(codes), MODEL, second, folder / "data")


def test_clips_have_a_place_for_the_embedding_of_their_row(data, second):
    rows_, two = data.rows, embeddings(2)
    for number, row in enumerate(rows_):
        ids, start = row["ids"], row["audio_start"]
        assert ids[:3] == [SPACE.start_of_human, SPACE.pad_token, SPACE.start_of_text]
        assert ids[start - 1] == SPACE.start_of_speech
        assert torch.equal(torch.tensor(row["speaker_emb"]), two[number % 2])
    found = References(data, load_tokenizer(second), ["EN_us"], 12.5)
    assert {line.text for line, _ in found.held_out()} <= set(TEXTS)
    assert {line.speaker for line, _ in found.held_out()} == {"EN_us"}
    mean = two.mean(dim=0)
    torch.testing.assert_close(found.voices(), {"EN_us": mean / mean.norm()})


def test_a_trained_model_keeps_the_projection_and_learns_with_it(second, data, tmp_path):
    one = experiment(max_steps=2, packing=True, lora={"target_modules": ("all-linear",)})
    job = job_of(tmp_path, second, one, data=data)
    report = train(job)
    merged, base = (load_file(path / "model.safetensors") for path in (report.model, second))
    assert {*merged} == {*base}
    assert torch.equal(merged[PROJECTION], base[PROJECTION])
    adapter = load_file(report.model / "adapter" / "adapter_model.safetensors")
    assert not [name for name in adapter if "speaker_emb" in name]
    moved = data.rows.map(lambda row: {"speaker_emb": [-x for x in row["speaker_emb"]]})
    other = dataclasses.replace(job, prepared=dataclasses.replace(data, rows=moved),
                                models=tmp_path / "other")  # fmt: skip
    assert train(other).metrics["loss"] != report.metrics["loss"]


def test_a_base_that_takes_embeddings_trains_without_and_says_so(second, base, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    train(job_of(tmp_path, second, experiment(max_steps=1), data=data_of(base)))
    told = [line for line in caplog.messages if "takes speaker embeddings" in line]
    assert len(told) == 1


def test_a_base_without_a_projection_is_refused_before_anything(base, tmp_path):
    codes = codes_with(tmp_path / "codes", embeddings(8).tolist())
    with pytest.raises(UserError, match="takes no speaker embeddings"):
        prepare(config_of(codes), MODEL, base, tmp_path / "data")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ([1.0] * (DIM - 1), f"the speaker embedding hasn't got {DIM} numbers"),
        ([0.0] * DIM, "the speaker embedding is zero, or not of finite numbers"),
        ([float("nan")] * DIM, "the speaker embedding is zero, or not of finite numbers"),
        (None, "no speaker embedding"),
    ],
)
def test_a_row_without_a_usable_embedding_is_left_out_with_the_reason(second, tmp_path, bad, why):
    found = [*embeddings(11).tolist(), bad]
    codes = codes_with(tmp_path / "codes", found)
    made = prepare(config_of(codes), MODEL, second, tmp_path / "data")
    assert made.reports[0].bad == {why: 1}
    assert made.reports[0].n_kept == 11


def test_a_column_of_something_else_is_refused(second, tmp_path):
    codes = codes_with(tmp_path / "codes", ["anna"] * 4)
    with pytest.raises(UserError, match="4 of them: the speaker embedding is no list of numbers"):
        prepare(config_of(codes), MODEL, second, tmp_path / "data")


def test_speakers_without_a_name_are_told_apart_by_embeddings_alone(second, tmp_path):
    two = {"speaker": ["anna", "bruno"] * 4}
    codes = codes_with(tmp_path / "codes", embeddings(8).tolist(), **two)
    with pytest.raises(UserError, match="2 speakers"):
        prepare(config_of(codes, speaker_emb=None), MODEL, second, tmp_path / "data")
    assert prepare(config_of(codes), MODEL, second, tmp_path / "data").reports[0].n_kept == 8


def test_two_words_before_a_text_and_a_missing_column_are_refused(tmp_path):
    with pytest.raises(UserError, match="one of them"):
        SourceConfig(reponame="codes", speaker_id="anna", language_tag="en")
    codes = saved(tmp_path / "codes", 4, **rows(4))
    with pytest.raises(UserError, match="no column grouped_sp_emb"):
        _ = Source(SourceConfig(reponame=str(codes), speaker_emb="grouped_sp_emb")).rows


@pytest.fixture
def speaker(tmp_path) -> Speaker:
    who = Speaker("ozzy", tmp_path / "training")
    random = np.random.default_rng(0)
    for name, seconds in (("a", 0.5), ("b", 0.9)):
        sound = 0.1 * random.standard_normal(int(22050 * seconds)).astype(np.float32)
        audio.save(who.audio / f"{name}.wav", sound, 22050)
    who.transcripts.write_text("audio_path,text\na.wav,Hello.\nb.wav,Good bye.\n", "utf-8")
    return who


def test_preparing_adds_the_mean_voice_and_hears_each_clip_once(speaker, miniature, encoder):
    def made():
        config, ids = PrepareConfig(workers=1), TokenSpace()
        return prepare_clips(speaker, speaker.kani, miniature[1], config, space=ids,
                             speaker_encoder=encoder, device="cpu")  # fmt: skip

    report = made()
    network = load_encoder(encoder)
    each = torch.stack([network.of_file(speaker.audio / f"{n}.wav") for n in "ab"])
    expected = torch.nn.functional.normalize(each.mean(dim=0), dim=0)
    rows_ = Source(SourceConfig(reponame=str(report.folder), speaker_emb="speaker_emb")).rows
    for found in (*rows_["speaker_emb"], read_embedding(speaker.kani.folder / VOICE_FILE).tolist()):
        torch.testing.assert_close(torch.tensor(found), expected)
    (kept,) = (speaker.kani.folder / "speaker_embeddings").iterdir()
    before = kept.read_bytes()
    ledger = Ledger(kept)
    assert len(ledger.values()) == 2
    made()
    assert kept.read_bytes() == before
    keys = [key for key, _ in ledger.items()]
    ledger.replace({keys[0]: ledger[keys[0]]})  # as if it had been killed after the first
    again = made()
    assert len(Ledger(kept).values()) == 2
    assert again.voice == report.voice


def test_a_folder_that_is_no_encoder_is_refused_before_clips_are_encoded(speaker, miniature):
    config, ids = PrepareConfig(workers=1), TokenSpace()
    with pytest.raises(UserError, match="no speaker encoder"):
        prepare_clips(speaker, speaker.kani, miniature[1], config, space=ids,
                      speaker_encoder=speaker.audio, device="cpu")  # fmt: skip
    assert not (speaker.kani.folder / "codes").exists()


def words(model, *more: str) -> list[str]:
    return ["--model-dir", str(model[0]), "--codec", str(model[1]), "--device", "cpu",
            "--max-new-tokens", "14", "--temperature", "0", "--text", "Hi", *more]  # fmt: skip


def test_the_tool_speaks_with_recordings_or_their_stored_embedding(talking, encoder, tmp_path):
    recording = tmp_path / "ozzy.wav"
    sound = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    audio.save(recording, 0.1 * sound, 16000)
    embedding = load_encoder(encoder).of_file(recording)
    torch.save(embedding[None], tmp_path / "ozzy.pt")
    voices = (["--reference-audio", str(recording), "--voice-encoder", str(encoder)],
              ["--embeddings", str(tmp_path / "ozzy.pt"), "--stream"], [])  # fmt: skip
    for number, more in enumerate(voices):
        infer(words(talking, *more, "--output", str(tmp_path / f"{number}.wav")))
    heard = [audio.load(tmp_path / f"{number}.wav", 22050) for number in range(3)]
    np.testing.assert_allclose(heard[0], heard[1], atol=2 / 2**15)
    assert np.abs(heard[0] - heard[2]).max() > 1e-4
    voice = KaniVoice.open(*talking, device="cpu")
    greedy = Sampling(max_new_tokens=14, temperature=0, top_p=0.95, repetition_penalty=1.1)
    (said,) = voice.speak(["Hi"], speaker_embedding=embedding, sampling=greedy)
    np.testing.assert_allclose(said.audio, heard[0], atol=2 / 2**15)


@pytest.mark.parametrize(
    ("which", "more", "why"),
    [
        ("plain", ["--embeddings", "a.safetensors"], "takes no speaker embeddings"),
        ("talking", ["--embeddings", "a.safetensors"], "no such file of weights"),
        ("talking", ["-r", "a.wav", "--voice-encoder", "nowhere"], "no speaker encoder"),
    ],
)
def test_a_voice_that_cannot_be_used_is_told_in_a_line(
    talking, miniature, tmp_path, which, more, why
):
    model = talking if which == "talking" else miniature
    with pytest.raises(UserError, match=why) as caught:
        infer(words(model, *more, "--output", str(tmp_path / "out.wav")))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more", [["-r", "a.wav"], ["-r", "a.wav", "--voice-encoder", "b", "--embeddings", "c.pt"]]
)
def test_flags_that_name_no_voice_or_two_are_a_wrong_call(talking, more):
    with pytest.raises(SystemExit):
        infer(words(talking, *more))


def test_a_model_that_learned_embeddings_and_gets_none_says_so(talking, tmp_path, caplog):
    model = shutil.copytree(talking[0], tmp_path / "model")
    sources = [{"reponame": "codes", "language_tag": "en", "speaker_emb": "speaker_emb"}]
    data = {"hf_datasets": sources}
    write_json(model / EXPERIMENT_FILE, {"format": FORMAT, "version": 1, "dataset": data})
    infer(words((model, talking[1]), "--output", str(tmp_path / "a.wav")))
    told = [line for line in caplog.messages if "this model was trained with" in line]
    assert ["--speaker-id en" in told[0], "--embeddings" in told[1]] == [True, True]


def test_a_clip_of_another_voice_is_spoken_again(talking, tmp_path):
    line, marks = Line("a", "Hi", "en"), []
    one, other = embeddings(2)
    every: list[dict[str | None, torch.Tensor]] = [{}, {"en": one}, {"en": other}]
    for voices in every:
        booth = Booth(tmp_path, talking[1], Sampling(max_new_tokens=14), TokenSpace(), paces={},
                      voices=voices, device="cpu")  # fmt: skip
        booth.speak("base", talking[0], "mark", [line])
        assert booth.missing("base", "mark", [line]) == []
        marks.append(booth.key("mark", line))
    assert len(set(marks)) == 3


def test_the_check_tells_that_a_base_takes_no_embeddings(base, second, tmp_path):
    codes = codes_with(tmp_path / "codes", embeddings(8).tolist())
    text = f"hf_datasets:\n  - reponame: {codes}\n    speaker_emb: grouped_sp_emb\n"
    for model, is_wrong in ((base, True), (second, False)):
        folder = configs(tmp_path / model.parent.name, model, text)
        told = [str(one) for one in check(folder) if "takes no speaker embeddings" in str(one)]
        assert len(told) == is_wrong


def configs(folder, model, dataset: str):
    shutil.copytree(CONFIGS, folder)
    (folder / "dataset_config.yaml").write_text(dataset, "utf-8")
    text = f"base_model: {model}\nexperiments: [{{base: {{model_id: a}}}}]\n"
    (folder / "experiments.yaml").write_text(text, "utf-8")
    ids = yaml.safe_dump(as_written(MODEL))
    (folder / "model_config.yaml").write_text(ids, "utf-8")
    return folder
