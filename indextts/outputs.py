"""Speech as files, and what is said about them in JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from indextts.infer_v2 import IndexTTS2
from indextts.speech import Speech
from ttscommon import audio

FORMAT = "indextts.speech"


def write_speech(path: Path, text: str, speech: Speech) -> dict[str, Any]:
    """Write the wave file, and return what there is to report about it."""
    audio.save(path, speech.samples, speech.sample_rate)
    return {
        "text": text,
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "seed": speech.seed,
        "duration": speech.duration,
        "rtf": speech.real_time_factor,
        "seconds": speech.seconds,
        "n_segments": len(speech.segments),
        "n_codes": sum(piece.n_codes for piece in speech.segments),
        "is_complete": all(piece.is_complete for piece in speech.segments),
    }


def report(tts: IndexTTS2, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Which weights spoke, on what, and the results of `write_speech`."""
    adapter = tts.language_model.adapter
    flow = tts.synthesizer.flow_dtype
    return {
        "format": FORMAT,
        "version": 1,
        "model": {
            "folder": str(tts.folder.root),
            "gpt": str(tts.gpt_path),
            "fingerprint": tts.language_model.fingerprint,
            "lora": {
                "folder": str(adapter.folder),
                "sha256": adapter.sha256,
                "scale": tts.language_model.scale,
            }
            if adapter
            else None,
            "is_miniature": tts.folder.config.is_miniature,
        },
        "device": str(tts.device),
        "gpt_dtype": str(tts.dtype).removeprefix("torch."),
        "flow_dtype": "float32" if flow is None else str(flow).removeprefix("torch."),
        "results": list(results),
    }
