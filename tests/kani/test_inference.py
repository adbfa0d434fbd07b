"""From texts to wave files, by the package and by command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kani.inference import KaniVoice
from kani.outputs import EXPERIMENT_FILE, FORMAT
from kani.sampling import Sampling, Segments
from kani.weights import load_language_model
from tools.kani_infer import main
from ttscommon import audio, lora
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json

SHORT = Sampling(max_new_tokens=26, temperature=1.0)  # six frames


@pytest.fixture(scope="module")
def voice(miniature) -> KaniVoice:
    torch.set_num_threads(1)
    return KaniVoice.open(*miniature, device="cpu")


@pytest.fixture(scope="module")
def adapter(miniature, tmp_path_factory) -> Path:
    model = load_language_model(miniature[0])
    lora.inject(model, lora.find_targets(model, ("q_proj", "w1", "in_proj")), rank=2, alpha=8.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    lora.save_adapter(model, folder)
    return folder


def test_texts_become_sound_of_their_frames(voice):
    found = voice.speak(["Good morning.", "Hi"], speaker="Anna", sampling=SHORT)
    for speech in found:
        assert speech.audio.shape == (6 * 1764,)
        assert speech.audio.dtype == np.float32
        assert speech.extracted.codes.shape == (4, 6)
        assert np.abs(speech.audio).max() > 0


def test_the_same_seed_says_the_same_and_another_something_else(voice):
    first, again, other = (
        voice.speak(["Hi"], sampling=Sampling(max_new_tokens=14, temperature=1.0, seed=seed))[0]
        for seed in (1, 1, 2)
    )
    assert (first.audio == again.audio).all()
    assert (first.extracted.codes != other.extracted.codes).any()


def test_the_case_of_the_speaker_makes_no_difference(voice):
    greedy = Sampling.greedy(max_new_tokens=10)
    found = [voice.speak(["Hi"], speaker=name, sampling=greedy)[0] for name in ("anna", " ANNA ")]
    assert (found[0].extracted.codes == found[1].extracted.codes).all()


def test_streaming_gives_the_same_sound(voice):
    whole = voice.speak(["Hi"], sampling=SHORT)[0].audio
    found = list(voice.stream("Hi", sampling=SHORT, chunk=4))
    assert [len(piece) // 1764 for piece in found] == [4, 2]
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-5)


def test_an_adapter_speaks_as_the_model_that_it_is_merged_into(miniature, adapter, tmp_path):
    greedy = Sampling.greedy(max_new_tokens=18)
    apart = KaniVoice.open(*miniature, adapter=adapter, device="cpu")
    model = load_language_model(miniature[0])
    lora.attach(model, lora.read_adapter(model, adapter))
    lora.merge(model)
    model.save_pretrained(tmp_path / "merged")
    (tmp_path / "merged" / "tokenizer.json").write_bytes(
        (miniature[0] / "tokenizer.json").read_bytes()
    )
    merged = KaniVoice.open(tmp_path / "merged", miniature[1], device="cpu")
    found = [one.speak(["Hi"], sampling=greedy)[0].extracted.codes for one in (apart, merged)]
    assert (found[0] == found[1]).all()
    base = KaniVoice.open(*miniature, device="cpu").speak(["Hi"], sampling=greedy)[0]
    assert (found[0] != base.extracted.codes).any()


def words(miniature: tuple[Path, Path], *more: str) -> list[str]:
    found = ["--model-dir", str(miniature[0]), "--codec", str(miniature[1]), "--device", "cpu"]
    return [*found, "--max-new-tokens", "14", *more]


def test_the_tool_writes_waves_and_what_it_measured(miniature, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("Hello there.\nAnd you?\n", encoding="utf-8")
    folder, told = tmp_path / "out", tmp_path / "told.json"
    more = ["--text-file", str(texts), "--output-dir", str(folder), "--json", str(told)]
    main(words(miniature, *more, "--speaker-id", "Anna"))
    names = ["kani_1_hello-there.wav", "kani_2_and-you.wav"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert audio.duration(folder / names[0]) == pytest.approx(3 * 0.08, abs=1e-3)
    report = read_json(told, format="kani.speech")
    assert [one["n_frames"] for one in report["results"]] == [3, 3]
    assert report["sampling"]["temperature"] == 0.6
    with pytest.raises(UserError, match="exists already"):
        main(words(miniature, *more))


def test_a_prompt_without_the_speaker_that_was_learned_is_told(miniature, tmp_path, caplog):
    model = tmp_path / "model"
    model.mkdir()
    for file in miniature[0].iterdir():
        (model / file.name).symlink_to(file)
    data = {"hf_datasets": [{"reponame": "codes", "speaker_id": "Anna"}]}
    write_json(model / EXPERIMENT_FILE, {"format": FORMAT, "version": 1, "dataset": data})
    for number, speaker in enumerate((["--speaker-id", "ANNA"], [])):
        output = ["--output", str(tmp_path / f"{number}.wav")]
        main(words((model, miniature[1]), "--text", "Hi", *speaker, *output))
        told = [line for line in caplog.messages if "--speaker-id" in line]
        assert told == ["this model was trained with --speaker-id Anna: 'hi'"] * number


def test_a_long_text_is_spoken_in_segments_with_pauses(voice):
    text, segments = "It rains. A dog barks.", Segments(max_text_tokens_per_segment=13)
    (found,) = voice.say([text], sampling=SHORT, segments=segments)
    assert found.segments == ("It rains.", "A dog barks.")
    apart = [one.audio for one in voice.speak(list(found.segments), sampling=SHORT)]
    pause = np.zeros(4410, np.float32)
    np.testing.assert_array_equal(found.audio, np.concatenate([apart[0], pause, apart[1]]))
    streamed = np.concatenate(list(voice.stream(text, sampling=SHORT, segments=segments)))
    np.testing.assert_allclose(streamed, found.audio, atol=1e-5)


def test_texts_are_cut_where_an_answer_would_be_too_long(voice):
    assert Segments().most_tokens(Sampling()) == 83
    text = "It rains. " * 12
    assert len(voice.cut(text.strip())) == 2
    assert voice.cut(text, segments=Segments(max_text_tokens_per_segment=10**6)) == [text]


def test_the_tool_streams_into_the_same_file(miniature, tmp_path, capsys):
    paths = [tmp_path / "whole.wav", tmp_path / "streamed.wav"]
    main(words(miniature, "--text", "Hi", "--output", str(paths[0])))
    main(words(miniature, "--text", "Hi", "--output", str(paths[1]), "--stream"))
    assert "first sound after" in capsys.readouterr().out
    heard = [audio.load(path, 22050) for path in paths]
    np.testing.assert_allclose(heard[0], heard[1], atol=2 / 2**15)


@pytest.mark.parametrize(
    ("more", "words_"),
    [
        (["--text", " "], "nothing to say"),
        (["--text", "Hi", "--lora-path", "nowhere"], "no LoRA adapter here"),
        (["--text", "<|im_end|> <|endoftext|>"], "name of a control token"),
    ],
)
def test_bad_input_is_told_in_a_line_and_nothing_is_written(
    miniature, tmp_path, monkeypatch, more, words_
):
    with pytest.raises(UserError, match=words_) as caught:
        main(words(miniature, *more, "--output", str(tmp_path / "out.wav")))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
