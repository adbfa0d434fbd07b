"""One command from recordings to a tuned voice: its stages, and the whole way in miniature."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from indextts.miniature import write_miniature
from tests.fakes.faster_whisper import write_model
from tools import train_speaker
from ttscommon.audio import load
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.manifest import read_manifest
from ttscommon.workspace import Speaker

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "examples/sample_speaker/audio"
RATE = 24_000
SAID = "please enter the number of the channel followed by the pound key or try again later"


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


def words(speaker: Speaker, checkpoint: Path, *more: str) -> list[str]:
    root = ["--training-root", str(speaker.root), "--model-dir", str(checkpoint)]
    return ["--speaker", speaker.name, *root, *more]


def planned(capsys) -> dict[str, str]:
    """{stage: command} of a dry run, with those in comments that are finished."""
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(":")[0].removeprefix("# ") for line in lines[::2]]
    return dict(zip(names, lines[1::2], strict=True))


def test_a_dry_run_shows_every_command_and_does_nothing(ozzy, checkpoint, capsys):
    train_speaker.main(words(ozzy, checkpoint, "--epochs", "3", "--dry-run"))
    commands = planned(capsys)
    assert tuple(commands) == train_speaker.NAMES
    assert "--epochs 3 " in commands["train"]
    assert [path.name for path in ozzy.folder.rglob("*")] == ["dataset", "audio"]


def test_every_stage_is_a_command_that_its_tool_understands(ozzy, checkpoint):
    more = ["--language", "en", "--device", "cpu", "--amp", "bf16", "--max-steps", "9"]
    texts = ["--test-texts", "One.", "Two."]
    args = train_speaker.build_parser().parse(words(ozzy, checkpoint, *more, *texts))
    for stage in train_speaker.chain(args, ozzy):
        tool = ".".join(Path(stage.script).with_suffix("").parts)
        given = [*stage.flags, *stage.again, *stage.machine_flags]
        importlib.import_module(tool).build_parser().parse(given)


@pytest.mark.parametrize("name", ["metadata.csv", "transcripts.tsv", "audio/a.txt"])
def test_every_text_by_hand_is_an_input_of_what_depends_on_it(ozzy, checkpoint, name):
    (ozzy.audio / "a.wav").touch()
    (ozzy.dataset / name).write_text("x")
    args = train_speaker.build_parser().parse(words(ozzy, checkpoint))
    for stage in train_speaker.chain(args, ozzy):
        if stage.name in ("transcribe", "validate", "prepare"):
            assert ozzy.dataset / name in stage.inputs


def test_all_that_reads_clips_is_repeated_when_some_are_excluded(ozzy, checkpoint):
    args = train_speaker.build_parser().parse(words(ozzy, checkpoint))
    stages = {stage.name: stage for stage in train_speaker.chain(args, ozzy)}
    assert {name for name, stage in stages.items() if ozzy.excluded in stage.inputs} == {
        *("transcribe", "validate", "prepare", "embeddings")
    }


def test_every_file_of_weights_is_known_to_the_stages_that_read_it(ozzy, checkpoint):
    args = train_speaker.build_parser().parse(words(ozzy, checkpoint))
    stages = {stage.name: stage for stage in train_speaker.chain(args, ozzy)}
    read = {name: {*stage.inputs, *stage.weights} for name, stage in stages.items()}
    codec = checkpoint / "semantic_codec" / "model.safetensors"
    assert codec in read["prepare"] & read["embeddings"]
    assert checkpoint / "gpt.pth" in read["prepare"] & read["train"] & read["compare"]
    assert all(path.is_file() for stage in stages.values() for path in stage.weights)


def test_stages_can_be_left_out(ozzy, checkpoint, capsys):
    train_speaker.main(
        words(ozzy, checkpoint, "--skip", "segment", "transcribe", "compare", "--dry-run")
    )
    assert list(planned(capsys)) == ["validate", "prepare", "train", "embeddings"]


@pytest.mark.parametrize(
    ("typed", "resumed"),
    [
        ("--speaker ozzy --from train --amp bf16", "--speaker ozzy --amp bf16"),
        ("--from=train --speaker ozzy", "--speaker ozzy"),
        ("--speaker 'o z' --epochs 3", "--speaker 'o z' --epochs 3"),
    ],
)
def test_the_command_to_go_on_with_starts_where_it_stopped(typed, resumed):
    found = train_speaker.resume_command(shlex.split(typed))
    assert found == f"python tools/train_speaker.py {resumed}"


def test_a_speaker_without_recordings_is_told_where_to_put_them(tmp_path, checkpoint):
    nobody = Speaker("nobody", tmp_path)
    with pytest.raises(UserError, match=r"no folder of recordings.*put recordings of nobody"):
        train_speaker.main(words(nobody, checkpoint))


def test_a_missing_checkpoint_is_told_before_anything_is_done(ozzy, tmp_path):
    with pytest.raises(UserError, match=r"no such checkpoint folder.*download_checkpoints"):
        train_speaker.main(words(ozzy, tmp_path / "none"))
    assert not ozzy.pipeline.exists()


def join_samples(folder: Path, n_files: int = 3, n_samples: int = 40, gap: float = 1.0) -> None:
    """The bundled recordings put together into a few long ones, with silence between them."""
    found = sorted(SAMPLES.glob("*.flac"))[:n_samples]
    chance = np.random.default_rng(0)
    silence = (1e-4 * chance.standard_normal(round(gap * RATE))).astype(np.float32)
    for number, part in enumerate(np.array_split(np.array(found, dtype=object), n_files)):
        pieces = [piece for path in part for piece in (load(path, RATE), silence)]
        soundfile.write(folder / f"long_{number}.wav", np.concatenate(pieces), RATE)


def require_formats(ozzy: Speaker) -> None:
    """Every file between the stages opens without pandas, pickles or code of ours."""
    clips = read_manifest(ozzy.clips_manifest)
    assert all((ozzy.folder / clip.audio).is_file() for clip in clips)
    with ozzy.transcripts_verbatim.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["filename", "text", "verbatim", "duration", "num_pauses", "num_fillers"]
    assert list(rows[0]) == columns
    assert len(rows) == len(clips)
    assert read_json(ozzy.validation)
    for name in ("train_manifest.jsonl", "val_manifest.jsonl"):
        lines = (ozzy.processed / name).read_text(encoding="utf-8").splitlines()
        for line in map(json.loads, lines):
            for key, n_dims in (("text_ids", 1), ("codes", 1), ("condition", 2), ("emo_vec", 1)):
                path = ozzy.processed / line[f"{key}_path"]
                assert np.load(path, allow_pickle=False).ndim == n_dims
    voice = torch.load(ozzy.speaker_embeddings, weights_only=True)
    assert voice["style"].shape[0] == 1
    assert (ozzy.lora.final_checkpoint / "adapter_model.safetensors").is_file()
    assert read_json(ozzy.lora.final_checkpoint / "adapter_config.json")["peft_type"] == "LORA"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_long_recordings_to_a_comparison(ozzy, checkpoint, tmp_path, monkeypatch, capsys):
    join_samples(ozzy.audio)
    fakes = [str(ROOT / "tests/fakes"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(fakes))
    whisper = write_model(tmp_path / "whisper", SAID)
    quick = ["--max-steps", "4", "--diffusion-steps", "2", "--num-beams", "1", "--n-texts", "2"]
    more = ["--whisper-model", str(whisper), "--language", "en", "--device", "cpu", *quick]
    code = train_speaker.main(words(ozzy, checkpoint, *more))
    assert code in (0, train_speaker.EXIT_WORSE)  # noise may be worse than noise
    out = capsys.readouterr().out
    assert "Next: python tools/infer.py --speaker ozzy" in out
    kept = read_json(ozzy.pipeline, format="ttscommon.stages")["stages"]
    assert {name: kept[name]["state"] for name in train_speaker.NAMES} == dict.fromkeys(
        train_speaker.NAMES, "done"
    )
    require_formats(ozzy)
    names = sorted(path.name for path in ozzy.comparison.iterdir())
    for label in ("1_base", "2_lora"):
        sounds = [name for name in names if re.search(rf"_{label}_.*\.wav$", name)]
        assert len(sounds) == 2
    assert any(name.endswith("_comparison_summary.txt") for name in names)
    # Nothing is done twice, and a change repeats only what depends on it.
    train_speaker.main(words(ozzy, checkpoint, *more, "--dry-run"))
    assert all(command.startswith("# ") for command in planned(capsys).values())
    train_speaker.main(words(ozzy, checkpoint, *more, "--epochs", "2", "--dry-run"))
    repeated = {name for name, command in planned(capsys).items() if not command.startswith("#")}
    assert repeated == {"train", "compare"}
