"""From recordings to a ranked table, by the commands that a person types; killed once."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kani.config_files import as_written
from kani.miniature import write_miniature
from tests.fakes.faster_whisper import write_model
from tests.kani.made_up_jobs import experiment
from ttscommon.files import read_json
from ttscommon.workspace import Speaker

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "examples/sample_speaker"
MOST_SECONDS = 240  # by the clock, on two cores with nothing else to do
MOST_WORK = 360  # of one processor; the same on a busy machine, whose cores are slower
TICK = os.sysconf("SC_CLK_TCK")
SENTENCES = {
    "morning": "demo: Good morning.",
    "who": "demo: Who is that over there?",
    "number": "demo: Please enter the number of the channel.",
}
EXPERIMENTS = [
    experiment("minimal", lora={"target_modules": ("q_proj", "v_proj")}, max_steps=6),
    experiment("balanced", lora={"r": 4}, max_steps=24, packing=True),
    experiment("large", lora={"r": 8, "use_rslora": False}, max_steps=6, batch_size=4),
]


def command(tool: str, *flags: Any) -> list[str]:
    return [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *map(str, flags)]


def run(folder: Path, tool: str, *flags: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/fakes"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(tool, *flags), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def write_configs(folder: Path, base: Path) -> Path:
    def write(name: str, content: Any) -> None:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    folder.mkdir()
    codes = {"reponame": "training/demo/kani/processed", "speaker_id": "demo"}
    write("dataset_config", {"hf_datasets": [codes], "validation_share": 0.1})
    names = [as_written(one) for one in EXPERIMENTS]
    write("experiments", {"base_model": str(base), "experiments": names})
    write("model_config", {})
    write("inference_config", {"generation": {"max_new_tokens": 62}})
    write("eval_config", {"processing": {"num_proc": 1}})
    write("eval_set", {"eval_set": [{name: said} for name, said in SENTENCES.items()]})
    return folder


def session_of(leader: int) -> dict[int, float]:
    """{process: seconds of processor} of all that a command started."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader:
            found[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / TICK
    return found


def train_and_kill(folder: Path, configs: Path) -> float:
    """Kill everything at once while the second experiment trains; what it cost."""
    words = command("kani_train", "--config-dir", configs, "--device", "cpu")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, cwd=folder, env=environment, start_new_session=True) as process:
        resume_point = folder / "checkpoints/runs/balanced/runs/adapter/state"
        until = time.monotonic() + 600
        while not (resume_point / "state.json").is_file():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        cost = session_of(process.pid)
        for number in cost:
            os.kill(number, signal.SIGKILL)
    assert (folder / "checkpoints/minimal/experiment.json").is_file()
    assert not (folder / "checkpoints/balanced").exists()
    return sum(cost.values())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_recordings_become_a_ranked_table_though_it_was_killed(tmp_path):
    base, codec = write_miniature(tmp_path / "tiny")
    speaker = Speaker("demo", tmp_path / "training")
    shutil.copytree(SAMPLES / "audio", speaker.audio)
    shutil.copy(SAMPLES / "transcripts.csv", speaker.transcripts)
    whisper = write_model(tmp_path / "whisper", "please enter the number")
    configs = write_configs(tmp_path / "configs", base)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    files = ["--config-dir", configs]
    run(tmp_path, "kani_prepare", "--speaker", "demo", "--codec", codec, "--device", "cpu", *files)
    run(tmp_path, "kani_check_config", *files)
    lost = train_and_kill(tmp_path, configs)
    again = run(tmp_path, "kani_train", *files, "--device", "cpu")
    assert "minimal: finished before" in again.stdout
    assert "3 of 3 are in checkpoints" in again.stdout
    assert "goes on from step" in again.stderr
    judged = run(
        tmp_path, "kani_eval", *files, "--codec", codec, "--device", "cpu",
        "--whisper-model", whisper,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = lost + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    clock = time.monotonic() - start
    log.warning("%s%.0f s, %.0f of processor time, %.0f of them killed",
                judged.stdout, clock, seconds, lost)  # fmt: skip
    ranks = read_json(tmp_path / "audio_samples/ranking.json")["ranking"]["ranks"]
    assert {one["condition"] for one in ranks} == {"base", "minimal", "balanced", "large"}
    page = (tmp_path / "audio_samples/evaluation.html").read_text(encoding="utf-8")
    for model in ("minimal", "balanced", "large", "lora_args.r"):
        assert model in page
    assert page.count("data:audio/") >= len(SENTENCES) * 4
    assert seconds < MOST_WORK
    assert clock < MOST_SECONDS or os.getloadavg()[0] > 2
