"""Speaking from the command line by what was trained for a speaker."""

import json

import pytest

from tests.indextts.speakers import write_adapter, write_pattern
from tools import infer, infer_with_patterns
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

QUICK = ["--device", "cpu", "--diffusion-steps", "1", "--num-beams", "1", "--seed", "5"]


@pytest.fixture
def start(miniature, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> dict:
        """What the report says about the model, and the sound's hash."""
        found = ["--model-dir", str(miniature), *QUICK, "--json", "report.json", "--overwrite"]
        infer.main(["--text", "The cat sat.", *words, *found])
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        return report["model"] | {"sound": report["results"][0]["sha256"]}

    return run


def test_the_best_model_speaks_and_says_so(start, trained, capsys):
    ozzy = trained.speaker("ozzy", Speaker("x").root, "lora", "finetune")
    said = start("--speaker", "ozzy")
    assert said["gpt"] == str(ozzy.finetune.best_model)
    assert said["lora"] is None
    assert (
        f"ozzy speaks by fully fine-tuned model {ozzy.finetune.best_model}"
        in capsys.readouterr().out
    )


def test_each_model_type_speaks_differently(start, trained, capsys):
    ozzy = trained.speaker("ozzy", Speaker("x").root, "lora", "finetune")
    base, lora, full = (
        start("--speaker", "ozzy", "--model-type", kind) for kind in ("base", "lora", "finetune")
    )
    assert lora["lora"]["folder"] == str(ozzy.lora.best_checkpoint)
    assert len({one["sound"] for one in (base, lora, full)}) == 3
    assert len({one["fingerprint"] for one in (base, lora, full)}) == 3
    out = capsys.readouterr().out
    assert "ozzy speaks by the base model" in out
    assert "The adapter moves the logits by up to" in out
    weak = start("--speaker", "ozzy", "--model-type", "lora", "--lora-scale", "0.5")
    assert weak["lora"]["scale"] == 0.5
    assert weak["fingerprint"] != lora["fingerprint"]


def test_an_adapter_that_changes_nothing_is_refused(start, trained, miniature, tmp_path):
    write_adapter(miniature, tmp_path / "dead", strength=0.0)
    voice = str(trained.speaker("ozzy", Speaker("x").root).speaker_embeddings)
    with pytest.raises(UserError, match="the adapter changes nothing"):
        start("--speaker-embeddings", voice, "--lora-path", "dead")
    assert not list(tmp_path.glob("*.wav"))


def test_a_scale_without_an_adapter_is_refused(start, trained):
    trained.speaker("ozzy", Speaker("x").root)
    with pytest.raises(UserError, match="--lora-scale, but the base model speaks"):
        start("--speaker", "ozzy", "--lora-scale", "0.5")


def test_a_model_that_was_never_trained_is_refused(start, trained):
    trained.speaker("ozzy", Speaker("x").root, "lora")
    with pytest.raises(UserError, match="'ozzy' has no fine-tuned model"):
        start("--speaker", "ozzy", "--model-type", "finetune")


def test_a_model_type_needs_a_speaker_to_choose_for(start, trained):
    voice = str(trained.speaker("ozzy", Speaker("x").root).speaker_embeddings)
    with pytest.raises(SystemExit, match="2"):
        start("--speaker-embeddings", voice, "--model-type", "lora")


def test_a_pattern_speaks_as_by_the_tool_for_patterns(start, trained, tmp_path, capsys):
    ozzy = trained.speaker("ozzy", Speaker("x").root, "adapted")
    said = start("--speaker", "ozzy")
    file = ozzy.pattern_training.best_checkpoint / "pattern_embedding.pt"
    out = capsys.readouterr().out
    assert f"ozzy speaks by pattern {file}" in out
    assert "The pattern moves the first code's logits by up to" in out
    assert said["lora"]["folder"] == str(file.parent / "lora")
    more = ["--model-dir", str(trained.checkpoint), *QUICK, "--json", "other.json"]
    infer_with_patterns.main(["--speaker", "ozzy", "--text", "The cat sat.", *more])
    other = json.loads((tmp_path / "other.json").read_text(encoding="utf-8"))
    assert other["results"][0]["sha256"] == said["sound"]


def test_the_strength_of_a_pattern_is_a_dial_that_ends_at_the_base(start, trained):
    trained.speaker("ozzy", Speaker("x").root, "pattern")
    base = start("--speaker", "ozzy", "--model-type", "base")["sound"]
    sounds = [start("--speaker", "ozzy", "--pattern-scale", x)["sound"] for x in ("0", "0.5", "1")]
    assert sounds[0] == base
    assert len(set(sounds)) == 3
    marked = start("--speaker", "ozzy", "--text", "The [UM] cat sat.")["sound"]
    assert start("--speaker", "ozzy", "--text", "The um cat sat.")["sound"] == marked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model-type", "base", "--pattern-scale", "1"], "--pattern-scale, but the base model"),
        (["--pattern-scale", "nan"], "pattern_scale is nan"),
    ],
)
def test_a_strength_that_makes_no_sense_is_refused(start, trained, words, message, tmp_path):
    trained.speaker("ozzy", Speaker("x").root, "pattern")
    with pytest.raises(UserError, match=message):
        start("--speaker", "ozzy", *words)
    assert not list(tmp_path.rglob("*.wav"))


def test_a_pattern_that_changes_nothing_is_refused(start, trained, miniature):
    ozzy = trained.speaker("ozzy", Speaker("x").root, "pattern")
    file = ozzy.pattern_training.best_checkpoint / "pattern_embedding.pt"
    write_pattern(miniature, file, strength=0.0)
    with pytest.raises(UserError, match="the pattern changes nothing"):
        start("--speaker", "ozzy")


def test_speakers_are_listed(trained, tmp_path, capsys):
    trained.speaker("ozzy", tmp_path, "lora")
    infer.main(["--list-speakers", "--training-root", str(tmp_path)])
    assert capsys.readouterr().out.split() == ["ozzy", "base,", "lora", "voice", "stored"]
