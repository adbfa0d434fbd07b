"""One command from recordings to a measured manner: its stages, and the whole way in miniature."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
from pathlib import Path

import pytest

from indextts.miniature import write_miniature
from indextts.pattern_chain import BUNDLED
from tests.fakes.faster_whisper import write_model
from tests.tools.test_train_speaker import SAID, join_samples, planned, words
from tools import train_patterns_pipeline, train_speaker
from ttscommon.errors import UserError
from ttscommon.evaluation.pattern_protocol import find_roles
from ttscommon.files import read_json
from ttscommon.workspace import Speaker

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "miniature"
    write_miniature(folder)
    return folder


@pytest.fixture
def ozzy(tmp_path) -> Speaker:
    speaker = Speaker("ozzy", tmp_path / "training")
    speaker.audio.mkdir(parents=True)
    return speaker


def stages(speaker: Speaker, checkpoint: Path, *more: str) -> dict:
    args = train_patterns_pipeline.build_parser().parse(words(speaker, checkpoint, *more))
    return {stage.name: stage for stage in train_patterns_pipeline.chain(args, speaker)}


def test_a_dry_run_shows_every_command_and_does_nothing(ozzy, checkpoint, capsys):
    train_patterns_pipeline.main(words(ozzy, checkpoint, "--epochs", "3", "--dry-run"))
    commands = planned(capsys)
    assert tuple(commands) == train_patterns_pipeline.NAMES
    assert "--epochs 3 " in commands["train_patterns"]
    assert [path.name for path in ozzy.folder.rglob("*")] == ["dataset", "audio"]


def test_the_guide_s_defaults_reach_the_training(ozzy, checkpoint):
    flags = shlex.join(stages(ozzy, checkpoint)["train_patterns"].flags)
    for wanted in ("--pattern-tokens 8", "--pattern-lr 0.001", "--injection-mode add",
                   "--epochs 40", "--batch-size 4", "--lora-rank 32", "--pause-weight 2",
                   "--learning-rate 0.0005"):  # fmt: skip
        assert f"{wanted} " in f"{flags} "


@pytest.mark.parametrize("way", [["--joint"], ["--no-lora"], ["--other-pattern", "ben.pt"]])
def test_every_stage_is_a_command_that_its_tool_understands(ozzy, checkpoint, way):
    more = ["--language", "en", "--device", "cpu", "--amp", "bf16", "--max-steps", "9", *way]
    more += ["--strengths", "0.5", "1.5", "--seeds", "1", "2", "--text-file", "t.txt"]
    more += ["--test-texts", "One.", "Two."]
    found = stages(ozzy, checkpoint, *more)
    assert tuple(found) == train_patterns_pipeline.NAMES
    for stage in found.values():
        tool = ".".join(Path(stage.script).with_suffix("").parts)
        given = [*stage.flags, *stage.again, *stage.machine_flags]
        importlib.import_module(tool).build_parser().parse(given)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ([], ["B0", "B1", "P", "LP", "LP0", "LPr", "LP@0.5", "R"]),
        (["--no-lora", "--strengths", "1.5"], ["B0", "B1", "P", "P0", "Pr", "P@1.5", "R"]),
        (
            ["--other-pattern", "ben.pt"],
            ["B0", "B1", "P", "LP", "LP0", "LPr", "LPx", "LP@0.5", "R"],
        ),
    ],
)
def test_what_is_spoken_is_what_is_compared(ozzy, checkpoint, more, names):
    found = stages(ozzy, checkpoint, *more)
    assert [path.name for path in found["speak"].outputs] == names
    compared = [word for word in found["evaluate"].flags if "=" in word]
    assert compared == [f"{name}={ozzy.pattern_speech / name}" for name in names]
    assert find_roles(names).off is not None


def test_an_adapter_of_the_other_chain_is_compared_too(ozzy, checkpoint):
    best = ozzy.lora.best_checkpoint
    best.mkdir(parents=True)
    (best / "adapter_config.json").touch()
    found = stages(ozzy, checkpoint)
    assert ozzy.pattern_speech / "L" in found["speak"].outputs
    assert f"L={ozzy.pattern_speech / 'L'}" in found["evaluate"].flags
    assert shlex.join(found["speak"].flags).endswith(f"--lora {best}")
    assert best in found["speak"].inputs


def test_the_bundled_speaker_prompts_unless_others_are_named(ozzy, checkpoint):
    manifest = ozzy.strangers / "train_manifest.jsonl"
    found = stages(ozzy, checkpoint)
    assert found["strangers"].outputs == [manifest]
    assert f"--prompt-manifest {manifest}" in shlex.join(found["train_patterns"].flags)
    assert manifest in found["train_patterns"].inputs
    left_out = stages(ozzy, checkpoint, "--skip", "strangers")["train_patterns"]
    assert "--prompt-manifest" not in left_out.flags
    with pytest.raises(UserError, match=r"'anna' has no prepared clips.*--speaker anna"):
        stages(ozzy, checkpoint, "--prompt-speakers", "anna")
    prepared = Speaker("anna", ozzy.root).processed / "train_manifest.jsonl"
    prepared.parent.mkdir(parents=True)
    prepared.touch()
    named = stages(ozzy, checkpoint, "--prompt-speakers", "anna")
    assert "strangers" not in named
    assert shlex.join(named["train_patterns"].flags).endswith("--prompt-speakers anna")
    assert prepared in named["train_patterns"].inputs


def test_who_comes_with_voxtune_is_no_stranger_to_themselves(ozzy, checkpoint):
    shutil.copy(next(BUNDLED.glob("audio/*.flac")), ozzy.audio / "talk.flac")
    assert "strangers" not in stages(ozzy, checkpoint)


def test_what_the_other_chain_has_finished_counts(ozzy, checkpoint):
    args = train_speaker.build_parser().parse(words(ozzy, checkpoint))
    others = {stage.name: stage for stage in train_speaker.chain(args, ozzy)}
    found = stages(ozzy, checkpoint)
    shared = {"segment", "transcribe", "validate", "embeddings"}
    assert set(found) & set(others) == shared  # names are unique in the file of the chain's state
    assert all(found[name] == others[name] for name in shared)


def test_every_file_of_weights_is_known_to_the_stages_that_read_it(ozzy, checkpoint):
    found = stages(ozzy, checkpoint)
    read = {name: {*stage.inputs, *stage.weights} for name, stage in found.items()}
    codec = checkpoint / "semantic_codec" / "model.safetensors"
    assert codec in read["prepare_v3"] & read["conditioning"] & read["embeddings"]
    spoken = read["test"] & read["speak"]
    assert {checkpoint / "s2mel.pth", ozzy.pattern_training.best_checkpoint} <= spoken
    assert checkpoint / "gpt.pth" in read["prepare_v3"] & read["train_patterns"] & spoken
    assert all(path.is_file() for stage in found.values() for path in stage.weights)


def test_a_plan_sees_what_a_stage_hands_to_later_ones(ozzy, checkpoint):
    found = stages(ozzy, checkpoint)
    handed = {
        ("conditioning", "prepare_v3"), ("prepare_v3", "train_patterns"), ("prepare_v3", "speak"),
        ("train_patterns", "test"), ("train_patterns", "speak"), ("embeddings", "test"),
        ("embeddings", "speak"), ("speak", "evaluate"),
    }  # fmt: skip
    for giver, taker in handed:
        assert set(found[giver].outputs) & set(found[taker].inputs), (giver, taker)


def test_stages_can_be_left_out(ozzy, checkpoint, capsys):
    skipped = ["segment", "transcribe", "validate", "conditioning", "strangers", "test"]
    skipped += ["speak", "evaluate"]
    train_patterns_pipeline.main(words(ozzy, checkpoint, "--skip", *skipped, "--dry-run"))
    assert list(planned(capsys)) == ["prepare_v3", "train_patterns", "embeddings"]


def test_nothing_is_measured_that_was_not_spoken(ozzy, checkpoint, capsys, caplog):
    train_patterns_pipeline.main(words(ozzy, checkpoint, "--skip", "speak", "--dry-run"))
    assert not {"speak", "evaluate"} & planned(capsys).keys()
    assert "'evaluate' is left out" in caplog.text
    with pytest.raises(UserError, match="no stage 'evaluate'"):
        train_patterns_pipeline.main(
            words(ozzy, checkpoint, "--skip", "speak", "--from", "evaluate", "--dry-run")
        )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strengths", "nan"], "a strength of nan"),
        (["--joint", "--no-lora"], "--joint trains an adapter"),
        (["--train-split", "1"], "train_split must be between 0 and 1"),
    ],
)
def test_senseless_wishes_are_refused_before_anything_is_done(ozzy, checkpoint, more, message):
    with pytest.raises(UserError, match=message):
        train_patterns_pipeline.main(words(ozzy, checkpoint, *more))
    assert not ozzy.pipeline.exists()


def test_a_speaker_without_recordings_is_told_where_to_put_them(tmp_path, checkpoint):
    nobody = Speaker("nobody", tmp_path)
    with pytest.raises(UserError, match=r"no folder of recordings.*put recordings of nobody"):
        train_patterns_pipeline.main(words(nobody, checkpoint))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_long_recordings_to_a_report(ozzy, checkpoint, tmp_path, monkeypatch, capsys):
    join_samples(ozzy.audio)
    fakes = [str(ROOT / "tests/fakes"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(fakes))
    whisper = write_model(tmp_path / "whisper", SAID)
    quick = ["--max-steps", "4", "--diffusion-steps", "2", "--num-beams", "1", "--n-texts", "3"]
    more = ["--whisper-model", str(whisper), "--language", "en", "--device", "cpu", *quick]
    code = train_patterns_pipeline.main(words(ozzy, checkpoint, *more))
    assert code in (0, train_patterns_pipeline.EXIT_WORSE)  # noise may be worse than noise
    out = capsys.readouterr().out
    assert "Next: python tools/infer_with_patterns.py --speaker ozzy" in out
    kept = read_json(ozzy.pipeline, format="ttscommon.stages")["stages"]
    assert all(kept[name]["state"] == "done" for name in train_patterns_pipeline.NAMES)
    best = ozzy.pattern_training.best_checkpoint
    assert (best / "pattern_embedding.pt").is_file()
    assert (best / "lora" / "adapter_model.safetensors").is_file()
    assert len(list(ozzy.test_outputs.glob("*.wav"))) == 2
    for name in ("B0", "B1", "P", "LP", "LP0", "LPr", "LP@0.5"):
        assert len(list((ozzy.pattern_speech / name).glob("*.wav"))) == 3
    told = read_json(ozzy.pattern_evaluation / "patterns.json")
    assert told["roles"]["system"] == "LP"
    # Nothing can be claimed of noise.
    assert {claim["status"] for claim in told["claims"]} <= {"not testable", "not shown"}
    # Nothing is done twice, and a change repeats only what depends on it.
    train_patterns_pipeline.main(words(ozzy, checkpoint, *more, "--dry-run"))
    assert all(command.startswith("# ") for command in planned(capsys).values())
    train_patterns_pipeline.main(words(ozzy, checkpoint, *more, "--epochs", "2", "--dry-run"))
    repeated = [name for name, command in planned(capsys).items() if not command.startswith("#")]
    assert repeated == ["train_patterns", "test", "speak", "evaluate"]
