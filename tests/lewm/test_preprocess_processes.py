"""Preparing with several processes, being stopped, and 20,000 clips: all through the real tool."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from lewm.config import PreprocessConfig
from lewm.features import FeatureStore
from lewm.preprocess import prepare
from tests.lewm.recordings_made import RATE, tone, write_dataset, write_transcripts
from ttscommon.workspace import Speaker

ROOT = Path(__file__).resolve().parents[2]
TOOL = str(ROOT / "tools" / "lewm_preprocess.py")
N_CLIPS = 20_000
OPEN = """
import json, resource, sys, time
from pathlib import Path
from lewm.config import PreprocessConfig
from lewm.features import FeatureStore
import numpy as np
began = time.perf_counter()
store = FeatureStore(Path(sys.argv[1]))
store.n_frames, store.n_bytes, store.texts, store.recordings, store[0]
opened = time.perf_counter() - began
began = time.process_time()
for index in np.random.default_rng(0).integers(0, len(store), 20_000):
    store[int(index)].mel[:, 5]
rate = 20_000 / (time.process_time() - began)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print("MEASURED", json.dumps({"n": len(store), "open": opened, "rate": rate, "peak": peak}))
"""


def measured(*command: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("MEASURED"))
    sys.stdout.write(line + "\n")  # for `pytest -s`
    return json.loads(line.removeprefix("MEASURED"))


def peak_gigabytes(*words: str) -> tuple[float, float]:
    """The most memory that the tool, and any of its workers, was seen to use."""
    peaks = {True: 0.0, False: 0.0}
    with subprocess.Popen([sys.executable, TOOL, *words], cwd=ROOT) as running:
        tool = psutil.Process(running.pid)
        while running.poll() is None:
            for process in (tool, *tool.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    used = process.memory_info().rss / 1e9
                    peaks[process == tool] = max(peaks[process == tool], used)
            time.sleep(0.2)
    assert running.returncode == 0
    return peaks[True], peaks[False]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_20_000_recordings_take_under_2_gb_and_open_in_under_5_s(tmp_path):
    audio = tmp_path / "in" / "audio"
    audio.mkdir(parents=True)
    for index in range(20):
        soundfile.write(tmp_path / f"{index}.wav", tone(2 + index / 10, 16_000), 16_000)
    for index in range(N_CLIPS):
        os.link(tmp_path / f"{index % 20}.wav", audio / f"clip{index:05d}.wav")
    names = [f"clip{index:05d}.wav" for index in range(N_CLIPS)]
    write_transcripts(tmp_path / "in" / "transcripts.csv", names)
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--workers", "2"]
    peaks = peak_gigabytes(*words)
    sys.stdout.write(f"peak of the tool and of a worker: {peaks} GB\n")
    assert max(peaks) < 2
    numbers = measured(OPEN, str(tmp_path / "out"))
    assert numbers["n"] == N_CLIPS
    assert numbers["open"] < 5
    assert numbers["rate"] > 5_000
    assert numbers["peak"] < 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_run_with_workers_that_is_stopped_leaves_whole_shards_and_goes_on(tmp_path, stop):
    audio = tmp_path / "in" / "audio"
    audio.mkdir(parents=True)
    soundfile.write(tmp_path / "long.wav", tone(90, 8_000), 8_000)
    for index in range(120):
        os.link(tmp_path / "long.wav", audio / f"clip{index:03d}.wav")
    write_transcripts(
        tmp_path / "in" / "transcripts.csv", [f"clip{index:03d}.wav" for index in range(120)]
    )
    out = tmp_path / "out"
    words = ["--input", str(tmp_path / "in"), "--output", str(out), "--max-seconds", "100"]
    command = [sys.executable, TOOL, *words, "--clips-per-shard", "100", "--workers", "2"]
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path
    )
    while not list(out.glob("shard-*.arrow")):
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    os.killpg(running.pid, stop)
    _, said = running.communicate(timeout=120)
    shards = list(out.glob("shard-*.arrow"))
    assert 0 < len(shards) < 19
    assert not (out / "features.json").exists()
    if stop == signal.SIGINT:
        assert running.returncode == 130
        assert said.strip().splitlines()[-1] == "stopped; the same command goes on from here"
        assert "Traceback" not in said
        assert not list(out.glob(".*"))
    before = {path: path.stat().st_mtime_ns for path in shards}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in shards} == before
    assert not list(out.glob(".*"))
    assert len(FeatureStore(out)) == 120


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_launched_processes_make_what_one_makes(tmp_path):
    speaker = Speaker("ozzy", tmp_path)
    write_dataset(speaker.dataset, 12)
    spoilt = speaker.audio / "clip007.wav"
    soundfile.write(spoilt, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    # What `accelerate launch` runs on GPUs; without one it starts a single process.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", TOOL]
    words = ["--speaker", "ozzy", "--training-root", str(tmp_path), "--clips-per-shard", "2"]
    done = subprocess.run([*launch, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(re.findall("^11 clips", done.stdout, re.MULTILINE)) == 1  # told once
    assert "NaN" in done.stdout
    two = FeatureStore(speaker.lewm.processed)
    shutil.rmtree(speaker.lewm.folder)
    prepare(speaker, PreprocessConfig(workers=1))
    one = FeatureStore(speaker.lewm.processed)
    assert (one.fingerprint, one.ids) == (two.fingerprint, two.ids)
    assert one.mel_mean == pytest.approx(two.mel_mean, rel=1e-12)
