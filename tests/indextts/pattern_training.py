"""Training a manner of speaking on the miniature, with clips whose pauses are known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from indextts import weights
from indextts.checkpoint import CheckpointFolder
from indextts.clips import codes, read_clips
from indextts.config import GptConfig
from indextts.pattern_config import PatternTrainConfig
from indextts.pattern_features import PatternFeatures
from indextts.pattern_train import PatternJob, train_patterns
from tests.indextts.prepared_clips import write_clips
from ttscommon.files import write_json
from ttscommon.workspace import SystemFolder

SIZES = [(3, 19), (4, 24), (6, 31), (5, 22), (4, 27), (3, 20)]
SILENCE = (3, 4, 5)
PAUSES = [[4, 8], [12, 15]]
FILLERS = [[9, 12]]


def add_patterns(manifest: Path, *, pauses: list[list[int]] | None = None) -> None:
    """Give the clips of a manifest pauses of silence codes, and nothing else that is silent."""
    spans = PAUSES if pauses is None else pauses
    for clip in read_clips([manifest]):
        random = np.random.default_rng(clip.code_len)
        found = codes(clip)
        found[np.isin(found, SILENCE)] += len(SILENCE)
        for first, last in spans:
            found[first:last] = random.choice(SILENCE, last - first)
        np.save(clip.codes_path, found.astype(np.int32))
        n, ends = clip.code_len, ((0, 0), (clip.code_len, clip.code_len))
        PatternFeatures(
            key="made up",
            frames=n,
            pauses=[(first, last) for first, last in spans],
            lead=ends[0],
            trail=ends[1],
            silent=[(first, last) for first, last in spans],
            spoken=[],
            fillers=[(first, last) for first, last in FILLERS],
            filler_words=["uh"],
        ).write(clip.codes_path.with_name(f"{clip.id}_pattern.json"))
    share = {str(code): 1.0 for code in SILENCE}
    rates = {"pauses_per_minute": 40.0, "fillers_per_minute": 20.0}
    info = {"silence_codes": list(SILENCE), "share": share, "rates": rates}
    write_json(manifest.parent / "pattern_info.json", info)


def write_others(folder: Path, config: GptConfig, base: str) -> Path:
    """Clips of somebody else, to prompt with."""
    return write_clips(folder, [(3, 9), (4, 12)], config, speaker="else", base=base, prefix="other")


def prepared(folder: Path, miniature: Path, **options: Any) -> PatternJob:
    """A job with clips of the miniature's base, and another speaker's to prompt with."""
    opened = CheckpointFolder.open(miniature)
    config = opened.config.gpt
    base = weights.fingerprint(weights.load_gpt(opened.gpt, config))
    processed = folder / "processed_v3"
    train = write_clips(processed, SIZES, config, base=base)
    held_out = write_clips(
        processed, [(4, 21), (3, 25)], config, name="val_manifest.jsonl", prefix="held", base=base
    )
    for manifest in (train, held_out):
        add_patterns(manifest, **options)
    about = processed / "dataset_info.json"
    told = json.loads(about.read_text(encoding="utf-8"))
    about.write_text(json.dumps({**told, "tokenizer_sha256": "t" * 64}), encoding="utf-8")
    others = write_others(folder / "others", config, base)
    output = SystemFolder(folder / "out")
    return PatternJob([train], [held_out], output, opened, device="cpu", others=[others])


def train(job: PatternJob, **changes: Any) -> Any:
    torch.set_num_threads(1)
    return train_patterns(job, PatternTrainConfig.tiny(**changes))


def elsewhere(job: PatternJob, name: str) -> PatternJob:
    return dataclasses.replace(job, output=SystemFolder(job.output.folder.parent / name))
