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
    base: Path,
    texts: Sequence[str],
    n: int,
    seed: int,
    folder: Path,
    device: str,
    *,
    new_voices: Sequence[str] = (),
    own_share: float = 0.0,
) -> SaidByBase:
    """Let a base say n of the texts in its voices.

    Args:
        base: checkpoint folder; it may have learned new voices' rows of the speaker table
        folder: keeps them for the next start as long as base, texts and seed are the same
        new_voices: these
        own_share: of all sentences, those in them

    Raises:
        UserError: if it can say none of them
    """
    weights = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    made_from = {"base": weights, "texts": fingerprint(list(texts)), "n": n, "seed": seed}
    made_from |= {"own_share": own_share} if own_share else {}
    note, path = folder / "said.json", folder / "latents.npy"
    with processes(device).main_process_first():
        known = read_json(note) if note.exists() and path.exists() else {}
        if known.get("made_from") != made_from:
            note.unlink(missing_ok=True)  # a kill must not leave it beside other latents
            engine = Engine(base, device=device, vocoder="griffinlim")
            voices = _voices(engine.model.config.speakers, new_voices, n, own_share)
            said = _say(engine, texts, voices, seed, path)
            write_json(note, {"made_from": made_from, **said})
    said = read_json(note)
    n_latents = np.array(said.pop("n_latents"))
    table = LatentTable(path, n_latents, fingerprint(said.pop("made_from")))
    return SaidByBase(**said, n_latents=n_latents, latents=table)


def _voices(known: Sequence[str], new: Sequence[str], n: int, own_share: float) -> list[str]:
    """Who says each of n sentences: the new voices their share, the base's voices as many each."""
    own = [name for name in known if name in new]
    others = [name for name in known if name not in new] or [""]
    n_own = round(n * own_share) if own else 0
    return [
        *(own[i % len(own)] for i in range(n_own)),
        *(others[i % len(others)] for i in range(n - n_own)),
    ]


def _say(
    engine: Engine, texts: Sequence[str], voices: Sequence[str], seed: int, path: Path
) -> dict[str, list[str] | list[int]]:
    """Speak a sentence in each of the voices and write their latents; runaways are left out."""
    config, language_of = engine.model.config, engine.info.training.get("language_of", {})
    fitting = [text for text in texts if len(text.encode()) <= engine.info.max_text_bytes] or texts
    shuffled = np.random.default_rng(seed_for(seed, "replay")).permutation(len(fitting))
    order: list[int] = shuffled.tolist()
    requests = [
        Request(text=fitting[order[i % len(order)]], speaker=voice or None)
        for i, voice in enumerate(voices)
    ]
    n_voices = len(set(voices))
    log.info("the base says %d sentences in %d voices, to be replayed", len(voices), n_voices)
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
