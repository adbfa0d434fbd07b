"""Speaking from the command line by what was trained for a speaker."""

import json

import pytest

from tests.indextts.speakers import write_adapter
from tools import infer
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


def test_speakers_are_listed(trained, tmp_path, capsys):
    trained.speaker("ozzy", tmp_path, "lora")
    infer.main(["--list-speakers", "--training-root", str(tmp_path)])
    assert capsys.readouterr().out.split() == ["ozzy", "base,", "lora", "voice", "stored"]
