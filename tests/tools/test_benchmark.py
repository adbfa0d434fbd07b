"""The benchmark tool: one run on random weights in miniature, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from indextts.miniature import write_miniature
from tools.benchmark import build_parser, main
from ttscommon.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["indextts2", "--preset", "tiny", "--device", "cpu", "--seconds", "0.4", "--segments", "2"]
SMALL += ["--reference-seconds", "1", "--diffusion-steps", "1", "--num-beams", "1"]
SMALL += ["--warmups", "0", "--vocoder-seconds", "2", "--whole-seconds", "2"]


def test_a_run_prints_a_table_and_writes_the_same_as_json(tmp_path, capsys):
    path = tmp_path / "speed.json"
    main([*SMALL, "--compare", "batch", "flow", "decode", "vocoder", "--json", str(path)])
    printed, written = capsys.readouterr().out, json.loads(path.read_text(encoding="utf-8"))
    stages = [row["stage"] for row in written["stages"]["rows"]]
    assert len(stages) == 9
    assert all(f"\n{stage} " in printed for stage in stages)
    assert [one["name"] for one in written["comparisons"]] == ["batch", "flow", "decode", "vocoder"]
    assert written["stages"]["tokens_per_second"] > 0
    assert written["stages"]["rtf"] > 0
    assert written["command"].startswith("python tools/benchmark.py indextts2 --preset tiny")
    assert "flow: " in printed
    assert "MISSED" in printed or "met" in printed


def test_a_checkpoint_is_measured_too(tmp_path, capsys):
    write_miniature(tmp_path / "tiny")
    main([*SMALL, "--model-dir", str(tmp_path / "tiny"), "--compare"])
    printed = capsys.readouterr().out
    assert f"weights: {tmp_path / 'tiny'}" in printed
    assert "tokens/s" in printed


def test_stages_can_be_left_out(capsys):
    main([*SMALL, "--skip-stages", "--compare", "batch"])
    printed = capsys.readouterr().out
    assert "batch: " in printed
    assert "gpt_decode" not in printed


def test_an_existing_report_is_not_overwritten(tmp_path):
    path = tmp_path / "speed.json"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        main([*SMALL, "--json", str(path)])
    assert path.read_text() == "mine"


def test_training_is_measured_case_by_case(tmp_path, capsys):
    words = ["indextts2-training", "--preset", "tiny", "--device", "cpu", "--seconds", "1"]
    words += ["--batch-sizes", "2", "--no-gradient-checkpointing", "--json", str(tmp_path / "a")]
    main([*words, "--threads", "1"])
    (row,) = json.loads((tmp_path / "a").read_text(encoding="utf-8"))["rows"]
    assert (row["case"]["batch_size"], row["case"]["checkpointing"]) == (2, False)
    assert row["clips_per_second"] > 0
    last = capsys.readouterr().out.splitlines()[-2].split()
    assert last[:3] == ["2", str(row["n_tokens"]), "off"]


def test_no_system_is_an_error_that_names_the_argument(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse([])
    assert "SYSTEM" in capsys.readouterr().err


def test_the_help_of_a_system_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; from tools.benchmark import main; "
        "main(['indextts2', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--diffusion-steps" in done.stdout
    assert "Example: python tools/benchmark.py indextts2" in done.stdout
