"""The base's own voices among the batches of a new one, so that fine-tuning forgets no words.

Where no clips of the base's voices are at hand, the base says some sentences itself, once, before
it is tuned: what it can do is all that must be kept of it (learning without forgetting, Li and
Hoiem 2016, with latents for labels).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lewm.dataset import SpeechBatch, SpeechPlan
from lewm.generation import Request
from lewm.inference_engine import Engine
from lewm.latents import LatentTable
from ttscommon.batching import BatchKey, CountedEpochs
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.files import atomic, read_json, write_json
from ttscommon.machine import processes
from ttscommon.seeds import seed_for

log = logging.getLogger(__name__)

TEXTS_FILE = "texts.txt"  # in a base's folder: sentences to keep it fluent with


@dataclass(frozen=True)
class SaidByBase:
    """Sentences and what the base made of them, one entry each."""

    ids: list[str]
    texts: list[str]
    speakers: list[str]
    languages: list[str]
    n_latents: np.ndarray
    latents: LatentTable


class ReplayPlan:
    """The batches of a new voice, and among them batches of the base's voices.

    Args:
        share: of all batches, those of the base's voices
    """

    def __init__(self, own: SpeechPlan, replayed: SpeechPlan, share: float, seed: int):
        self.own, self.replayed, self.share, self.seed = own, replayed, share, seed
        self.first = int(max(own.items)) + 1  # replayed items are numbered behind its own
        self.fingerprint = fingerprint(own.fingerprint, replayed.fingerprint, share)

    def epoch(self, epoch: int) -> list[BatchKey]:
        keys = self.own.epoch(epoch)
        n = max(1, round(len(keys) * self.share / (1 - self.share)))
        # From where the epoch before ended: every sentence comes round before one comes again.
        passes = CountedEpochs(self.replayed).all_keys()
        batches = [key for _, key in zip(range((epoch + 1) * n), passes, strict=False)][-n:]
        keys += [
            replace(key, items=tuple(item + self.first for item in key.items)) for key in batches
        ]
        order = np.random.default_rng(seed_for(self.seed, "mix", epoch)).permutation(len(keys))
        return [keys[i] for i in order]

    def load(self, key: BatchKey) -> SpeechBatch:
        if key.items[0] < self.first:
            return self.own.load(key)
        items = tuple(item - self.first for item in key.items)
        return self.replayed.load(replace(key, items=items))


def said_by(
    base: Path, texts: Sequence[str], n: int, seed: int, folder: Path, device: str
) -> SaidByBase:
    """Let a base say n of the texts in its voices.

    Args:
        base: checkpoint folder
        folder: keeps them for the next start as long as base, texts and seed are the same

    Raises:
        UserError: if it can say none of them
    """
    weights = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    made_from = {"base": weights, "texts": fingerprint(list(texts)), "n": n, "seed": seed}
    note, path = folder / "said.json", folder / "latents.npy"
    with processes(device).main_process_first():
        known = read_json(note) if note.exists() and path.exists() else {}
        if known.get("made_from") != made_from:
            note.unlink(missing_ok=True)  # a kill must not leave it beside other latents
            said = _say(Engine(base, device=device, vocoder="griffinlim"), texts, n, seed, path)
            write_json(note, {"made_from": made_from, **said})
    said = read_json(note)
    n_latents = np.array(said.pop("n_latents"))
    table = LatentTable(path, n_latents, fingerprint(said.pop("made_from")))
    return SaidByBase(**said, n_latents=n_latents, latents=table)


def _say(
    engine: Engine, texts: Sequence[str], n: int, seed: int, path: Path
) -> dict[str, list[str] | list[int]]:
    """Speak n sentences, each voice as many, and write their latents; what ran away is left out."""
    config, language_of = engine.model.config, engine.info.training.get("language_of", {})
    voices = config.speakers or ("",)
    fitting = [text for text in texts if len(text.encode()) <= engine.info.max_text_bytes] or texts
    shuffled = np.random.default_rng(seed_for(seed, "replay")).permutation(len(fitting))
    order: list[int] = shuffled.tolist()
    requests = [
        Request(text=fitting[order[i % len(order)]], speaker=voices[i % len(voices)] or None)
        for i in range(n)
    ]
    log.info("the base says %d sentences in %d voices, to be replayed", n, len(voices))
    said = [
        (request, engine.model.destandardise(spoken.latents.to(engine.device)).cpu().numpy())
        for request, spoken in zip(requests, engine.generate(requests), strict=True)
        if not spoken.ran_away
    ]
    if not said:
        raise UserError(
            "the base ran away in every sentence it said",
            where=path.parent,
            fix="take a base that can speak, or --replay-share 0",
        )
    with atomic(path) as draft, draft.open("wb") as file:
        np.save(file, np.concatenate([latents for _, latents in said]).astype(np.float32))
    default = config.languages[0] if config.languages else "en"
    speakers = [request.speaker or "" for request, _ in said]
    return {
        "ids": [f"replay {i}" for i in range(len(said))],
        "texts": [request.text for request, _ in said],
        "speakers": speakers,
        "languages": [language_of.get(speaker, default) for speaker in speakers],
        "n_latents": [len(latents) for _, latents in said],
    }
