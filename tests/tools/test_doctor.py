"""The doctor as people call it: what is printed, what is written, which exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from indextts.miniature import write_miniature
from tools import doctor
from ttscommon.catalogue import HIGGS
from ttscommon.errors import UserError
from ttscommon.workspace import Speaker

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def examine(tmp_path, monkeypatch, capsys):
    """Runs the tool in an empty folder; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def examine(*words: str) -> str:
        doctor.main(words)
        return capsys.readouterr().out

    return examine


def test_a_machine_without_checkpoints_is_well_and_told_what_it_lacks(examine, tmp_path):
    printed = examine()
    assert printed.endswith("--speaker NAME   # checks recordings and texts\n")
    assert "All well." in printed
    assert "trains (lewm_train.py)" in printed
    assert re.search(r"higgs +can't run \(trains an adapter, checks it", printed)
    for name in ("indextts2", "higgs", "kani", "vocos", "whisper"):
        assert f"Fix: python tools/download_checkpoints.py {name}" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_system_that_was_named_must_be_able_to_run(examine):
    with pytest.raises(UserError, match="1 to put right: systems: indextts2"):
        examine("indextts2")


def test_an_unknown_system_is_a_wrong_call(examine, capsys):
    with pytest.raises(SystemExit) as stop:
        examine("indextts")
    assert stop.value.code == 2
    assert "did you mean indextts2?" in capsys.readouterr().err


def test_a_checkpoint_of_another_version_is_wrong(examine, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/config.yaml").write_text("version: 1.5\n", encoding="utf-8")
    with pytest.raises(UserError, match="checkpoints: indextts2"):
        examine()


def test_findings_are_written_even_when_something_is_wrong(examine, tmp_path):
    with pytest.raises(UserError, match="data set: ozzy"):
        examine("--speaker", "ozzy", "--json", "health.json")
    report = json.loads((tmp_path / "health.json").read_text(encoding="utf-8"))
    assert (report["format"], report["well"]) == ("voxtune.doctor", False)
    last = report["found"][-1]
    assert (last["area"], last["status"]) == ("data set", "wrong")
    assert last["fix"] == "put recordings into training/ozzy/dataset/audio"


def test_a_speakers_recordings_are_checked(examine):
    audio = Speaker("ozzy").audio
    audio.mkdir(parents=True)
    soundfile.write(audio / "a.wav", 0.1 * np.ones(16_000), 16_000)
    printed = examine("--speaker", "ozzy")
    assert "1 that can be read" in printed
    assert "Next: python tools/lewm_preprocess.py --speaker ozzy   # lewm" in printed
    assert "train_speaker.py --speaker" not in printed  # there is no checkpoint
    printed = examine("evaluation", "--speaker", "ozzy")
    assert printed.count("Next:") == 1
    assert "Next: python tools/evaluate.py --speaker ozzy   # evaluation" in printed


def test_what_comes_next_is_of_the_system_that_was_named(examine, tmp_path):
    root = tmp_path / "weights"
    write_miniature(root / "indextts2")
    audio = Speaker("ozzy").audio
    audio.mkdir(parents=True)
    soundfile.write(audio / "a.wav", 0.1 * np.ones(16_000), 16_000)
    printed = examine("indextts2", "--speaker", "ozzy", "--checkpoint-root", str(root))
    tool = "python tools/train_speaker.py --speaker ozzy"
    assert printed.endswith(f"Next: {tool} --model-dir {root}   # indextts2\n")
    printed = examine("--speaker", "ozzy", "--checkpoint-root", str(root))
    assert "Next: python tools/lewm_preprocess.py --speaker ozzy   # lewm" in printed
    assert f"Next: {tool} --model-dir {root}   # indextts2" in printed
    for source in HIGGS.sources:
        for name in source.files:
            path = root / "higgs" / source.folder / name.replace("*", "x.safetensors")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"{}")
    printed = examine("higgs", "--speaker", "ozzy", "--checkpoint-root", str(root))
    line = printed.splitlines()[-1]
    assert line.startswith("Next: python tools/higgs_train.py --speaker ozzy --model-path ")
    for flag in ("--model-path", "--audio-tokenizer-path"):
        assert Path(line.split(f"{flag} ")[1].split()[0]).is_dir()
    printed = examine("indextts2", "--checkpoint-root", str(root))
    assert "Next: python tools/doctor.py indextts2 --speaker NAME" in printed


def test_smoke_that_rises_is_wrong_and_its_cause_is_told(examine, monkeypatch, capsys):
    def fails(folder):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(doctor, "SMOKE", {"lewm": fails, "kani": lambda folder: "spoke"})
    with pytest.raises(UserError, match="smoke: lewm"):
        examine("--smoke")
    printed = capsys.readouterr().out
    assert "RuntimeError: no kernel image" in printed
    assert re.search(r"ok +kani +spoke in 0 s", printed)


@pytest.mark.slow
def test_every_system_runs_in_miniature(examine):
    printed = examine("--smoke")
    assert re.search(r"ok +lewm +prepared sound and trained", printed)
    assert re.search(
        r"ok +indextts2 +a miniature trained a step of an adapter and spoke \d", printed
    )
    assert re.search(r"ok +higgs +a miniature trained a step of an adapter and spoke \d", printed)


def test_a_python_without_any_package_is_told_so():
    command = [sys.executable, "-S", str(ROOT / "tools/doctor.py")]  # -S: no site-packages
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "No module named 'packaging'" in done.stdout
    assert "Fix: make setup" in done.stdout
    assert done.stderr.startswith("error: ")
