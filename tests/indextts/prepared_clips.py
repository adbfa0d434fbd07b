"""What `tools/prepare_lora_dataset.py` reads, and what it leaves, filled with random numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from indextts.config import GptConfig

RATE = 22_050


def write_clips(
    folder: Path,
    sizes: list[tuple[int, int]],
    config: GptConfig | None = None,
    *,
    name: str = "train_manifest.jsonl",
    speaker: str = "ozzy",
    base: str = "base",
    prefix: str = "clip",
) -> Path:
    """A manifest of one clip for each (text length, code length)."""
    config = config or GptConfig.tiny()
    random = np.random.default_rng(len(prefix) + len(sizes))
    (folder / "features").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (text_len, code_len) in enumerate(sizes):
        ident = f"{prefix}_{number:03d}"
        arrays = {
            "text_ids": random.integers(2, config.number_text_tokens, text_len).astype(np.int32),
            "codes": random.integers(0, config.start_mel_token, code_len).astype(np.int32),
            "condition": random.standard_normal(
                (config.condition_num_latent, config.model_dim)
            ).astype(np.float32),
            "emo_vec": random.standard_normal(config.model_dim).astype(np.float32),
            "w2v": random.standard_normal((code_len + 1, config.cond_input_dim)).astype(np.float16),
        }
        for kind, array in arrays.items():
            np.save(folder / "features" / f"{ident}_{kind}.npy", array)
        paths = {f"{kind}_path": f"features/{ident}_{kind}.npy" for kind in arrays}
        paths["features_path"] = paths.pop("w2v_path")
        lines.append(
            {
                "id": ident,
                "text": f"text {number}",
                "audio_path": f"../audio/{ident}.wav",
                **paths,
                "text_len": text_len,
                "code_len": code_len,
                "condition_len": config.condition_num_latent,
                "duration": code_len / 50,
                "sample_type": "single",
                "recording": f"{ident}.wav",
                "speaker": speaker,
                "language": "en",
                "sha256": f"{speaker}-{ident}",
            }
        )
    manifest = folder / name
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    info = {"format": "indextts.lora_dataset", "version": 1, "base": base}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    return manifest


def write_noise(path: Path, seed: int, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * random.standard_normal(round(seconds * RATE)), RATE)


def write_table(path: Path, rows: dict[str, str], header: str = "audio_path,text") -> Path:
    lines = [header, *(f'{name},"{text}"' for name, text in rows.items())]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
