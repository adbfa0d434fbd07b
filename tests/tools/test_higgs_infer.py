"""From texts and recordings to judged wave files, by command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from higgs_trainer.adapter import fingerprint, inject, write_base
from higgs_trainer.checkpoint import HiggsCheckpoint
from higgs_trainer.config import HiggsTrainConfig
from higgs_trainer.miniature import write_miniature
from higgs_trainer.statistics import Statistics, write_statistics
from higgs_trainer.text import TextConfig
from higgs_trainer.weights import load_model
from tools.higgs_infer import main
from ttscommon import audio, lora
from ttscommon.errors import UserError
from ttscommon.evaluation.conditions import find_utterances


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model, a codec, a recording, and an adapter that learned Arabic without diacritics."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("infer")
    model, _ = write_miniature(folder)
    hum = 0.3 * np.sin(np.arange(36000) / 20).astype(np.float32)
    audio.save(folder / "me.wav", hum, 16000)
    (folder / "me.txt").write_text("What I say.\n", encoding="utf-8")
    network = load_model(HiggsCheckpoint.open(model), text_head=False)
    base = fingerprint(network)
    inject(network, HiggsTrainConfig().targets, rank=2, alpha=4.0, dropout=0.0)
    chance = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=chance)

    def beside(draft: Path) -> None:
        write_base(draft, base)
        write_statistics(draft, Statistics(text=TextConfig(arabic_diacritics="strip")))

    lora.save_adapter(network, folder / "adapter", beside=beside)
    return folder


def words(place: Path, *more: str) -> list[str]:
    found = ["--model-path", str(place / "model"), "--audio-tokenizer-path", str(place / "codec")]
    return [*found, "--device", "cpu", "--temperature", "1", "--retries", "0", *more]


def test_texts_become_judged_waves_that_can_be_compared(place, tmp_path, capsys):
    texts = tmp_path / "texts.json"
    texts.write_text('["Hi there.", {"text": "Ha [laugh]", "id": "ha"}]', encoding="utf-8")
    told, folder = tmp_path / "told.json", tmp_path / "out"
    more = ["--text-file", str(texts), "--reference-audio", str(place / "me.wav"), "--seed", "3"]
    more += ["--retries", "1"]
    main(words(place, *more, "--output-dir", str(folder), "--json", str(told)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Speaks by the base", f"Reference of [SPEAKER0]: {place / 'me.wav'}"]
    found = json.loads(told.read_text(encoding="utf-8"))
    assert [Path(one["path"]).name for one in found["results"]] == [
        "higgs_1_hi-there_seed3.wav",
        "ha_seed3.wav",
    ]
    for one in found["results"]:
        assert audio.duration(Path(one["path"])) == pytest.approx(one["duration"], abs=1e-3)
        assert one["seeds"][0] in (3, 4)
        assert len(one["segments"][0]["takes"]) == 1 + one["retries"]
        assert any(one["path"] in line and "seed" in line for line in lines)
        checked = {finding["what"] for finding in one["verdict"]["findings"]}
        assert checked >= {"silence", "clipped", "steps", "speech without an end"}
    assert found["references"][0]["text"] == "What I say."
    assert {(one.path.name, one.text, one.seed) for one in find_utterances(folder)} == {
        ("higgs_1_hi-there_seed3.wav", "Hi there.", 3),
        ("ha_seed3.wav", "Ha", 3),
    }
    with pytest.raises(UserError, match="exists already"):
        main(words(place, *more, "--output-dir", str(folder)))


def test_samples_as_they_are_trained_on_are_answered_in_batches(place, tmp_path):
    heard = {"type": "audio", "audio_url": "me.wav"}
    asked = [{"role": "user", "content": "What I say."}, {"role": "assistant", "content": heard}]
    asked += [{"role": "user", "content": "Hello"}]
    learned = [*asked, {"role": "assistant", "content": heard}]
    records = [{"messages": asked, "id": "asked"}, {"messages": learned, "id": "learned"}]
    path = place / "chat.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    more = ["--temperature", "0", "--repetition-window", "0", "--system", "", "--scene", ""]
    chat = ["--text-file", str(path), "--output-dir", str(tmp_path), "--batch-size", "2"]
    main(words(place, *more, *chat))
    plain = ["--text", "Hello", "--reference-audio", str(place / "me.wav")]
    main(words(place, *more, *plain, "--output", str(tmp_path / "plain.wav")))
    names = ("asked", "learned", "plain")
    assert len({(tmp_path / f"{name}.wav").read_bytes() for name in names}) == 1


def test_a_dialogue_is_one_wave(place, tmp_path, capsys):
    told, wave = tmp_path / "told.json", tmp_path / "tea.wav"
    more = ["--text", "[SPEAKER0] Tea? [SPEAKER1] No.", "--interval-silence", "0"]
    main(words(place, *more, "--output", str(wave), "--json", str(told)))
    (result,) = json.loads(told.read_text())["results"]
    assert [one["speaker"] for one in result["segments"]] == [0, 1]
    total = sum(one["duration"] for one in result["segments"])
    assert audio.duration(wave) == pytest.approx(total, abs=1e-3)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".csv"] == []


def test_an_adapter_changes_the_voice_and_brings_its_text_rules(place, tmp_path):
    told = tmp_path / "told.json"
    for name, more in (("base", []), ("tuned", ["--lora-path", str(place / "adapter")])):
        wave = ["--output", str(tmp_path / f"{name}.wav"), "--json", str(told), "--overwrite"]
        main(words(place, "--text", "كَيْفَ", *more, *wave))
    assert (tmp_path / "base.wav").read_bytes() != (tmp_path / "tuned.wav").read_bytes()
    found = json.loads(told.read_text())
    assert found["text_rules"]["arabic_diacritics"] == "strip"
    assert found["results"][0]["segments"][0]["text"] == "كيف."
    asked = ["--arabic-diacritics", "keep", "--lora-path", str(place / "adapter")]
    with pytest.raises(UserError, match="arabic_diacritics: strip -> keep"):
        main(words(place, "--text", "كَيْفَ", *asked, "--output", str(tmp_path / "x.wav")))


def test_an_adapter_of_another_base_is_refused(place, tmp_path):
    other, _ = write_miniature(tmp_path, seed=1)
    more = ["--lora-path", str(place / "adapter"), "--model-path", str(other)]
    with pytest.raises(UserError, match="trained on another base"):
        main([*words(place), *more, "--text", "Hi.", "--output", str(tmp_path / "x.wav")])
    assert not (tmp_path / "x.wav").exists()


def test_a_speaker_speaks_by_their_adapter_after_a_clip_of_theirs(place, tmp_path, capsys):
    speaker = tmp_path / "training" / "anna"
    (speaker / "dataset" / "audio").mkdir(parents=True)
    for name, n_samples in (("short", 9000), ("good", 120000)):
        hum = 0.3 * np.sin(np.arange(n_samples) / 20).astype(np.float32)
        audio.save(speaker / "dataset" / "audio" / f"{name}.wav", hum, 16000)
    table = "audio_path,text\nshort.wav,Hm.\ngood.wav,What I say.\n"
    (speaker / "dataset" / "transcripts.csv").write_text(table, encoding="utf-8")
    who = ["--speaker", "anna", "--training-root", str(tmp_path / "training"), "--text", "Hi."]
    with pytest.raises(UserError, match="no adapter was trained"):
        main(words(place, *who, "--model-type", "lora"))
    shutil.copytree(place / "adapter", speaker / "higgs" / "best_checkpoint")
    main(words(place, *who))
    told = capsys.readouterr().out
    assert f"Speaks by {speaker / 'higgs' / 'best_checkpoint'}" in told
    assert "good.wav" in told
    assert (speaker / "outputs" / "higgs_hi.wav").is_file()
    main(words(place, *who, "--no-reference", "--model-type", "base", "--overwrite"))
    told = capsys.readouterr().out
    assert "Speaks by the base" in told
    assert "Reference" not in told


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--text", "..."], "nothing to say"),
        (["--text", "Hi.", "--reference-audio", "gone.wav"], "no such audio file"),
        (["--text", "Hi.", "--lora-scale", "2"], "but the base speaks"),
        (["--text", "Hi.", "--temperature", "-1"], "temperature and top_k are 0 or more"),
        (["--text", "Hi <|AUDIO|>"], "belongs to the structure"),
        (["--text", "Hi.", "--lora-path", "gone"], "no such file"),
        (["--text", "Hi.", "--force-whisper"], "no audio tower"),
    ],
)
def test_what_cannot_be_is_refused(place, tmp_path, monkeypatch, more, what):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=what):
        main(words(place, *more))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--text", "a", "--text-file", "b"],
        ["--text", "a", "--output", "x.mp3"],
        ["--text", "a", "--output", "x.wav", "--output-dir", "y"],
        ["--text", "a", "--reference-audio", "x.wav", "--reference-text", "a", "b"],
        ["--text", "a", "--no-reference", "--reference-audio", "x.wav"],
        ["--text", "a", "--model-type", "lora"],
    ],
)
def test_a_wrong_call_is_exit_code_2(place, more):
    with pytest.raises(SystemExit, match="2"):
        main(words(place, *more))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "broken JSON"),
        ("[]", "no list of texts"),
        ("[3]", "entry 1 is no text"),
        ('[{"text": "a", "speaker": "b"}]', "entry 1 has 'speaker'"),
        ('[{"text": "a", "id": "../b"}]', "can't be a file's name"),
        ('[{"messages": [{"role": "user", "content": 3}]}]', "entry 1: message 0: content of"),
        ('[{"messages": [{"role": "assistant", "content": "a"}]}]', "entry 1: nobody says"),
        ('[{"messages": [], "text": "a"}]', "entry 1 has 'text'"),
        ('[{"text": "a", "id": "b"}, {"text": "c", "id": "b"}]', "the same id"),
    ],
)
def test_broken_lists_of_texts_are_refused(place, tmp_path, text, what):
    path = tmp_path / "texts.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=what):
        main(words(place, "--text-file", str(path), "--output-dir", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
