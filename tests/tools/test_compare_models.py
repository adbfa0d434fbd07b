"""Base, LoRA and fine-tuned model beside each other, from the command line."""

import json

import pytest

from tests.indextts.speakers import Trained, write_recording
from tools import compare_models
from ttscommon.errors import UserError

QUICK = ["--device", "cpu", "--num-beams", "1", "--diffusion-steps", "1", "--max-mel-tokens", "30"]
QUICK += ["--whisper-model", "none"]


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("compare")
    write_miniature(folder / "miniature")
    return Trained(folder / "miniature", folder / "store")


def start(left: Trained, root, *words: str) -> int:
    more = ["--model-dir", str(left.checkpoint), "--training-root", str(root)]
    return compare_models.main([*words, *more, *QUICK])


def test_the_numbered_files_and_the_summary_are_written(left, tmp_path, capsys):
    speaker = left.speaker("ozzy", tmp_path, "lora", "finetune")
    write_recording(tmp_path / "real/a.wav", 2.0)
    words = ["--speaker", "ozzy", "--text", "The cat sat.", "--recordings", str(tmp_path / "real")]
    assert start(left, tmp_path, *words) == 0
    names = sorted(path.name for path in speaker.comparison.iterdir())
    (stamp,) = {name[:15] for name in names if name != "measured.jsonl"}
    assert names == [
        f"{stamp}_1_base_the-cat-sat.wav",
        f"{stamp}_2_lora_the-cat-sat.wav",
        f"{stamp}_3_finetuned_the-cat-sat.wav",
        f"{stamp}_comparison_report.html",
        f"{stamp}_comparison_summary.txt",
        f"{stamp}_evaluation.csv",
        f"{stamp}_evaluation.json",
        "measured.jsonl",
    ]
    out = capsys.readouterr().out
    assert (speaker.comparison / names[4]).read_text(encoding="utf-8").strip() in out
    found = json.loads((speaker.comparison / names[6]).read_text(encoding="utf-8"))
    assert set(found["scores"]) == {"base", "lora", "finetune", "real"}
    assert set(found["differences"]) >= {"lora", "finetune"}
    assert "no recogniser was given" in found["absent"]["wer"]


def test_a_pattern_is_one_more_model_that_speaks_the_same(left, tmp_path):
    speaker = left.speaker("ozzy", tmp_path, "pattern")
    words = ["--speaker", "ozzy", "--text", "The [UM] cat sat.", "--pattern-scale", "0"]
    assert start(left, tmp_path, *words) == 0
    base, pattern = sorted(speaker.comparison.glob("*.wav"))
    assert base.name.endswith("_1_base_the-um-cat-sat.wav")
    assert pattern.name.endswith("_4_pattern_the-um-cat-sat.wav")
    assert base.read_bytes() == pattern.read_bytes()  # at strength 0, from the same marks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pattern-scale", "nan"], "pattern_scale is nan"),
        (["--pattern-embedding", "voice.pt"], "no pattern embedding"),
    ],
)
def test_a_pattern_of_no_use_is_refused_before_anything_is_spoken(left, tmp_path, words, message):
    speaker = left.speaker("ozzy", tmp_path, "pattern")
    with pytest.raises(UserError, match=message):
        start(left, tmp_path, "--speaker", "ozzy", "--text", "Hi.", *words)
    assert not speaker.comparison.exists()


def test_without_anything_trained_there_is_nothing_to_compare(left, tmp_path):
    left.speaker("ozzy", tmp_path)
    with pytest.raises(UserError, match=r"nothing was trained.*train_gpt_lora.py --speaker ozzy"):
        start(left, tmp_path, "--speaker", "ozzy", "--text", "Hi.")
    with pytest.raises(UserError, match=r"nothing was trained.*--lora FOLDER"):
        start(left, tmp_path, "--reference-audio", "me.wav", "--text", "Hi.")


def test_a_speaker_without_a_stored_voice_is_told_how_to_get_one(left, tmp_path):
    speaker = left.speaker("ozzy", tmp_path, "lora")
    speaker.speaker_embeddings.unlink()
    with pytest.raises(UserError, match=r"no stored voice.*extract_embeddings.py --speaker ozzy"):
        start(left, tmp_path, "--speaker", "ozzy", "--text", "Hi.")


@pytest.mark.parametrize(
    "words",
    [
        ["--lora", "x", "--text", "Hi."],
        ["--speaker", "ozzy", "--embeddings", "a.pt", "--reference-audio", "a.wav"],
    ],
)
def test_contradictory_flags_are_wrong_usage(left, tmp_path, words):
    left.speaker("ozzy", tmp_path, "lora")
    with pytest.raises(SystemExit, match="2"):
        start(left, tmp_path, *words)


def test_a_recogniser_that_is_missing_is_told_before_anything_is_spoken(left, tmp_path):
    speaker = left.speaker("ozzy", tmp_path, "lora")
    words = ["--speaker", "ozzy", "--text", "Hi.", "--model-dir", str(left.checkpoint)]
    words += ["--training-root", str(tmp_path)]
    with pytest.raises(UserError, match="no such Whisper model"):
        compare_models.main([*words, "--whisper-model", "none-there.pt"])
    assert not speaker.comparison.exists()


def test_speakers_are_listed(left, tmp_path, capsys):
    left.speaker("ozzy", tmp_path, "finetune")
    assert compare_models.main(["--list-speakers", "--training-root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == ["ozzy", "base,", "finetune", "voice", "stored"]
