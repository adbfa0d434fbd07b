"""Memory and start-up stay flat with the number of clips: 20,000 of them through the real tool."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lewm.features import FEATURES_FILE, Features, describe, write_shard
from ttscommon.files import write_json
from ttscommon.mel import MelRecipe

ROOT = Path(__file__).resolve().parents[2]
N_CLIPS, CLIPS_PER_SHARD = 20_000, 500
# Run inside the measured process: time from the call until the first batch was trained on, and the
# peak memory.
MEASURE = """
import resource, sys, time
import tools.lewm_train, lewm.train
from ttscommon.progress import Monitor
began = time.perf_counter()
first = []
count = Monitor.count
def timed(self, n_clips):
    first.append(time.perf_counter() - began)
    return count(self, n_clips)
Monitor.count = timed
tools.lewm_train.main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(f"MEASURED start {first[0]:.2f} s, peak {peak:.2f} GB")
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_20_000_clips_train_in_2_gb_and_start_in_5_s(tmp_path: Path) -> None:
    recipe, random = MelRecipe(), np.random.default_rng(0)
    noise = random.normal(-4, 2, (recipe.n_mels, 300)).astype(np.float16)
    processed = tmp_path / "processed"
    processed.mkdir()
    shards = []
    for start in range(0, N_CLIPS, CLIPS_PER_SHARD):
        clips = [
            Features(
                f"clip{i}", noise[:, : 200 + i % 100], "some words to say", "a", "en", f"{i}.wav"
            )
            for i in range(start, start + CLIPS_PER_SHARD)
        ]
        shards.append(processed / f"shard-{start}.arrow")
        write_shard(shards[-1], clips, recipe)
    write_json(processed / FEATURES_FILE, describe(shards, {}))
    words = ["--data-dir", str(processed), "--output-dir", str(tmp_path / "out"), "--device", "cpu"]
    words += ["--preset", "tiny", "--autoencoder-steps", "5", "--predictor-steps", "5"]
    words += ["--validation-share", "0.001", "--eval-texts", "2"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"start ([\d.]+) s, peak ([\d.]+) GB", done.stdout)
    assert found, done.stdout
    start, peak = map(float, found.groups())
    assert peak < 2, f"{peak} GB"
    assert start < 5, f"{start} s"
