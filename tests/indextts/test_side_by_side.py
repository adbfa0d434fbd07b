"""One model after the other says the same."""

import dataclasses
from pathlib import Path

import pytest

from indextts.infer_v2 import IndexTTS2
from indextts.outputs import write_speech
from indextts.side_by_side import (
    SENTENCES,
    Line,
    file_name,
    held_out,
    lines,
    noticed,
    own_texts,
    speak_all,
    speak_by,
    spoken_language,
    write_summary,
)
from indextts.tuned import Tuned
from indextts.tuned import trained as trained_for
from ttscommon.errors import UserError
from ttscommon.evaluation.conditions import Utterance
from ttscommon.files import write_json
from ttscommon.workspace import Speaker

QUICK = {"num_beams": 1, "diffusion_steps": 1, "max_mel_tokens": 30}


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory):
    speaker = trained.speaker("ozzy", tmp_path_factory.mktemp("root"), "lora", "finetune")
    return [Tuned("base"), *trained_for(speaker).values()]


@pytest.fixture(scope="module")
def spoken(trained, models, tmp_path_factory):
    tts = IndexTTS2(model_dir=trained.checkpoint, device="cpu")
    folder = tmp_path_factory.mktemp("comparison")
    said = lines(["The cat sat.", "It slept."], [1, 2], 1)
    voice = trained.store / "voice.pt"
    return list(speak_all(tts, models, said, folder, voice=voice, stamp="now", **QUICK))


def test_every_model_says_every_text_with_every_seed(spoken):
    assert [one.tuned.kind for one in spoken] == ["base", "lora", "finetune"]
    folder = spoken[0].spoken[0].path.parent
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        f"now_{label}_{text}_seed{seed}.wav"
        for label in ("1_base", "2_lora", "3_finetuned")
        for text in ("1_the-cat-sat", "2_it-slept")
        for seed in (1, 2)
    ]
    sounds = [one.record["sha256"] for model in spoken for one in model.spoken]
    assert len(set(sounds)) == 12
    assert [one.utterance.seed for one in spoken[1].spoken] == [1, 2, 1, 2]


def test_switching_models_sounds_like_loading_them_one_by_one(trained, models, spoken, tmp_path):
    for tuned, before in list(zip(models, spoken, strict=True))[1:]:
        tts = IndexTTS2(
            model_dir=trained.checkpoint,
            device="cpu",
            lora_path=tuned.lora_path,
            gpt_checkpoint=tuned.gpt_checkpoint,
        )
        voice = trained.store / "voice.pt"
        request = tts.request(None, "The cat sat.", speaker_embeddings=voice, seed=1, **QUICK)
        record = write_speech(tmp_path / "alone.wav", "The cat sat.", tts.speak(request))
        assert record["sha256"] == before.spoken[0].record["sha256"]
        assert tuned.lora_path or tts.language_model.fingerprint[:12] in before.description


def test_the_base_comes_back_bit_for_bit(trained, models):
    tts = IndexTTS2(model_dir=trained.checkpoint, device="cpu")
    mark = tts.language_model.fingerprint
    first = speak_by(tts, models[0])
    assert "moves the logits by up to" in speak_by(tts, models[1])
    assert tts.language_model.fingerprint != mark
    assert speak_by(tts, models[0]) == first
    assert (tts.language_model.fingerprint, tts.language_model.adapter) == (mark, None)
    speak_by(tts, models[2])
    speak_by(tts, models[1])
    assert speak_by(tts, models[0]) == first


def test_a_pattern_speaks_and_leaves_no_trace(trained, models, tmp_path):
    tts = IndexTTS2(model_dir=trained.checkpoint, device="cpu")
    speaker = trained.speaker("ozzy", tmp_path, "adapted", "finetune")
    plain = speak_by(tts, models[0])
    speak_by(tts, trained_for(speaker)["finetune"])
    told = speak_by(tts, trained_for(speaker)["pattern"], pattern_scale=0.5)
    assert "rank 2" in told
    assert "the pattern, scale 0.5, moves them by up to" in told
    assert tts.synthesizer.manner is not None
    assert speak_by(tts, models[0]) == plain
    assert tts.synthesizer.manner is None


def test_the_summary_lists_models_texts_and_files(spoken, tmp_path):
    write_summary(tmp_path / "s.txt", "Comparison of ozzy", "voice.pt", spoken, ["wer 0.1"])
    text = (tmp_path / "s.txt").read_text(encoding="utf-8")
    assert text.startswith(
        "Comparison of ozzy\n\nVoice: voice.pt\nModels:\n  1_base       the base"
    )
    assert 'Text 1, seed 1, the speaker\'s own recording of it was held out: "The cat sat."' in text
    assert 'Text 2, seed 2: "It slept."' in text
    for model in spoken:
        assert all(one.path.name in text for one in model.spoken)
    assert text.endswith("wer 0.1\n")


def test_what_is_wrong_on_the_face_of_it_is_noticed(spoken):
    base, lora, _ = spoken
    assert not any("silent" in found or "exactly" in found for found in noticed(spoken))
    quiet = dataclasses.replace(lora.spoken[0], loudness=-90.0)
    cut = dataclasses.replace(
        lora.spoken[1], record={**lora.spoken[1].record, "is_complete": False}
    )
    same = dataclasses.replace(base.spoken[2], path=lora.spoken[2].path)
    odd = dataclasses.replace(lora, spoken=[quiet, cut, same, lora.spoken[3]])
    found = " ".join(noticed([base, odd]))
    assert f"lora: 1 are silent, {quiet.path.name} first" in found
    assert "lora: " in found
    assert "found no end" in found
    assert "lora: 1 of 4 sound exactly as by the base model" in found


def test_one_text_and_seed_leave_number_and_seed_out_of_the_name():
    line = Line(1, "Hello, this is a test.", 7)
    assert file_name("x", "1_base", line, [line]) == "x_1_base_hello-this-is-a-test.wav"


def test_texts_are_held_out_ones_and_then_ours():
    real = [Utterance(Path(f"{i}.wav"), text) for i, text in enumerate(["One.", "Two.", "One."])]
    assert own_texts(real, 4, "en-us") == (["One.", "Two.", *SENTENCES[:2]], 2)
    assert own_texts(real, 3, "de") == (["One.", "Two."], 2)
    assert own_texts(real, 1, "de") == (["One."], 1)
    with pytest.raises(UserError, match="nothing to say in 'de'"):
        own_texts([], 3, "de")


def test_without_a_manifest_nothing_was_held_out(tmp_path):
    assert held_out(tmp_path / "val_manifest.jsonl") == []


def test_the_language_is_what_whisper_found_where_nothing_else_is_known(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    assert spoken_language(speaker) == "en"
    write_json(speaker.transcription_stats, {"language": "zh"})
    assert spoken_language(speaker) == "zh"
