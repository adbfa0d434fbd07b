"""The trainer of patterns as it is typed."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest
from accelerate import Accelerator

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_embeddings import PatternEmbedding
from indextts.strangers import keep_prompts
from indextts.train_flags import chosen
from tests.indextts.pattern_training import prepared, write_others
from tools.train_pattern_embeddings import build_parser, main
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

# The table of the guide.
GUIDE = {
    "pattern_tokens": 8, "pattern_lr": 1e-3, "injection_mode": "add", "epochs": 40,
    "batch_size": 4, "lora_rank": 32, "pause_weight": 2.0,
}  # fmt: skip
# And what the public trainer has besides.
PUBLIC = {
    "lora_alpha": 64.0, "lora_dropout": 0.05, "grad_accumulation": 4, "learning_rate": 5e-4,
    "grad_clip": 1.0, "rate_weight": 0.5, "log_interval": 20, "save_interval": 200, "seed": 42,
}  # fmt: skip
QUICK = [
    *("--max-steps", "3", "--batch-size", "2", "--grad-accumulation", "1", "--pattern-tokens", "2"),
    *("--device", "cpu", "--lora-rank", "2", "--lora-alpha", "4"),
]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    from indextts.miniature import write_miniature

    folder = tmp_path_factory.mktemp("checkpoint") / "miniature"
    write_miniature(folder)
    return folder


@pytest.fixture
def words(tmp_path, miniature):
    """What is typed for a speaker who is prepared, with another to prompt with."""
    job = prepared(tmp_path, miniature)
    speaker, other = Speaker("ozzy", tmp_path), Speaker("anna", tmp_path)
    shutil.copytree(job.train[0].parent, speaker.processed_v3)
    config = CheckpointFolder.open(miniature).config.gpt
    base = weights.fingerprint(weights.load_gpt(miniature / "gpt.pth", config))
    write_others(other.processed, config, base)
    who = ["--speaker", "ozzy", "--training-root", str(tmp_path)]
    return [*who, "--prompt-speakers", "anna", "--model-dir", str(miniature), *QUICK]


def test_defaults_are_the_guides():
    config = chosen(build_parser().parse(["--speaker", "ozzy"]), PatternTrainConfig)
    expected = {**GUIDE, **PUBLIC}
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.has_adapter
    assert not chosen(build_parser().parse(["--no-lora"]), PatternTrainConfig).has_adapter


def test_a_speakers_pattern_is_trained_and_told_of(words, tmp_path, capsys):
    main(words)
    said = capsys.readouterr().out
    folder = Speaker("ozzy", tmp_path).pattern_training
    assert f"Best pattern: {folder.best_checkpoint}" in said
    assert [line.split("  ")[1].strip() for line in said.splitlines()[2:5]] == [
        *("with the pattern", "without it", "shuffled"),
    ]
    who = f"--speaker ozzy --training-root {tmp_path}"
    assert f"Next: python tools/infer_with_patterns.py {who}" in said
    pattern = PatternEmbedding.load(folder.best_checkpoint / "pattern_embedding.pt")
    assert pattern.num_pattern_tokens == 2
    assert (folder.best_checkpoint / "lora" / "adapter_config.json").is_file()
    assert (folder.final_checkpoint / "pattern_embedding.pt").is_file()
    assert (folder.logs / "pattern" / "report.html").is_file()


def test_who_was_never_prepared_is_told_how(tmp_path):
    who = ["--speaker", "ozzy", "--training-root", str(tmp_path)]
    with pytest.raises(UserError, match=r"prepare_pattern_dataset_v3\.py --speaker ozzy"):
        main(who)
    with pytest.raises(UserError, match="nothing to train on"):
        main([])
    assert list(tmp_path.iterdir()) == []


def test_others_who_were_never_prepared_are_told_of(words):
    with pytest.raises(UserError, match="'ben' has no prepared clips"):
        main([*words, "--prompt-speakers", "ben"])


def test_whoever_else_is_prepared_prompts_unless_told_otherwise(words, tmp_path, capsys):
    told = words[: words.index("--prompt-speakers")] + words[words.index("--model-dir") :]
    speaker = Speaker("ozzy", tmp_path)
    shutil.copytree(speaker.processed_v3, Speaker("copy", tmp_path).processed)
    held_out = Speaker("held_out", tmp_path).processed
    shutil.copytree(speaker.processed_v3, held_out)
    (held_out / "val_manifest.jsonl").replace(held_out / "train_manifest.jsonl")
    shutil.copytree(Speaker("anna", tmp_path).processed, speaker.processed)
    outdated = Speaker("anna", tmp_path).processed_v3
    shutil.copytree(Speaker("anna", tmp_path).processed, outdated)
    about = outdated / "dataset_info.json"
    about.write_text(about.read_text("utf-8").replace('"base": "', '"base": "0'), "utf-8")
    broken = Speaker("broken", tmp_path).processed
    shutil.copytree(Speaker("anna", tmp_path).processed, broken)
    (broken / "dataset_info.json").write_text("{", encoding="utf-8")
    main([*told, "--max-steps", "1", "--no-lora"])
    assert "Prompts: own clips, and those of anna\n" in capsys.readouterr().out
    run = json.loads((speaker.pattern_training.logs / "pattern" / "run.json").read_text("utf-8"))
    assert "--prompt-speakers anna" in run["starts"][-1]["command"]
    main([*told, "--max-steps", "1", "--no-lora", "--overwrite", "--prompt-speakers"])
    assert "Prompts: own clips only." in capsys.readouterr().out


class _Killed(BaseException):
    """Nobody handles it, so nothing is saved on the way out."""


def die_at(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """End as if killed, once there are the gradients of a batch."""
    count, backward = itertools.count(1), Accelerator.backward

    def dying(accelerator, loss, **options):
        backward(accelerator, loss, **options)
        if next(count) == batch:
            raise _Killed

    monkeypatch.setattr(Accelerator, "backward", dying)


def test_a_killed_run_goes_on_with_its_prompts_whoever_was_prepared_since(
    words, tmp_path, capsys, monkeypatch
):
    told = words[: words.index("--prompt-speakers")] + words[words.index("--model-dir") :]
    told += ["--no-lora", "--save-interval", "1"]
    with monkeypatch.context() as patched:
        die_at(patched, 2)
        with pytest.raises(_Killed):
            main(told)
    shutil.copytree(Speaker("anna", tmp_path).processed, Speaker("ben", tmp_path).processed)
    main(told)
    line = "Prompts: own clips, and those of anna, as when this run began; not ben, prepared since"
    assert f"{line} (--overwrite begins anew with everybody)\n" in capsys.readouterr().out
    folder = Speaker("ozzy", tmp_path).pattern_training
    lines = (folder.logs / "pattern" / "run.json").read_text("utf-8")
    assert [start["step"] for start in json.loads(lines)["starts"]] == [0, 1]
    main([*told, "--overwrite"])
    assert "those of anna, ben\n" in capsys.readouterr().out


def test_prompts_of_a_run_that_are_gone_are_told_of(words, tmp_path):
    told = words[: words.index("--prompt-speakers")] + words[words.index("--model-dir") :]
    run = Speaker("ozzy", tmp_path).pattern_training.run("pattern")
    anna = Speaker("anna", tmp_path).processed / "train_manifest.jsonl"
    keep_prompts(run, [anna])
    anna.unlink()
    with pytest.raises(UserError, match=r"gone.*anna.*--prompt-speakers NAMES"):
        main(told)


def test_a_2_5_checkpoint_is_refused(words, miniature, tmp_path):
    import torch

    copy = tmp_path / "later"
    shutil.copytree(miniature, copy)
    held = torch.load(copy / "gpt.pth", weights_only=True)
    names = [name for name in held["model"] if name.startswith("conditioning_encoder.")]
    for name in names:
        del held["model"][name]
    held["model"]["spk_emb_proj.weight"] = torch.zeros(1, 1)
    torch.save(held, copy / "gpt.pth")
    with pytest.raises(UserError, match=r"2\.5"):
        main([*words, "--model-dir", str(copy)])
