"""What is measured: copies of strangers, and held-out texts said by the voice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples.closed_grammar.evaluation import Utterance, copy, read_held_out, speak
from examples.embedded_voice.hearing import Ear
from examples.embedded_voice.scoring import (
    Numbers,
    score_ends,
    score_lengths,
    score_voices,
    score_words,
)
from lewm.inference_engine import Engine
from lewm.recordings import LEAD, TAIL
from ttscommon import audio

log = logging.getLogger(__name__)
LONG = {3: 20, 6: 16}  # sentences joined, and how many such texts at most
LONG_KIND = "plain"


class Trial:
    """One measurement, as the command line asks for it.

    Args:
        args: of `measure.build_parser`
        ear: instead of the recogniser that `args` names
    """

    def __init__(self, args: Any, ear: Ear | None = None):
        self.args = args
        self.engine = Engine(args.checkpoint, device=args.device, vocoder=args.vocoder)
        rate = self.engine.recipe.sample_rate
        self.ear = ear or Ear(args.whisper_model, rate, args.kept)

    def copies(self) -> list[Numbers]:
        """A row for the recordings of each voice and one for their copies."""
        folders = {name: self.args.root / name / "dataset" for name in self.args.voices}
        folders["human"] = self.args.human
        rows = []
        for voice, folder in folders.items():
            recordings = read_held_out(folder, self.engine, self.args.limit)
            row = {"voice": voice, "texts": "own"}
            said = self._heard({**row, "said": "recordings"}, recordings)
            rows.append(said | score_words(_texts(recordings), said.pop("heard")))
            copies = copy(self.engine, recordings)
            rows.append(self._compared({**row, "said": "copies"}, copies, recordings))
            rows[-1] |= self._likeness(voice, copies, recordings)
        return rows

    def readings(self) -> list[Numbers]:
        """Rows for recordings, copies and readings of each voice and kind of text."""
        rows = []
        for voice in self.args.voices:
            for kind in ("plain", "hard"):
                folder = self.args.root / "heldout" / kind / voice / "dataset"
                recordings = read_held_out(folder, self.engine, self.args.limit)
                rows += self._rows(voice, kind, recordings)
                if kind == LONG_KIND and self.args.long:
                    for n_joined, n_texts in LONG.items():
                        rows += self._long_rows(voice, recordings, n_joined, n_texts)
        return rows

    def _rows(self, voice: str, kind: str, recordings: list[Utterance]) -> Iterator[Numbers]:
        row = {"voice": voice, "texts": kind}
        said = self._heard({**row, "said": "recordings"}, recordings)
        yield said | score_words(_texts(recordings), said.pop("heard"))
        if self.args.copies:
            copies = copy(self.engine, recordings)
            yield self._compared({**row, "said": "copies"}, copies, recordings)
        for reading in self.args.readings:
            said = self._speak(voice, reading, recordings)
            yield self._compared({**row, "said": reading}, said, recordings)

    def _long_rows(
        self, voice: str, recordings: Sequence[Utterance], n_joined: int, n_texts: int
    ) -> Iterator[Numbers]:
        groups = [
            recordings[start : start + n_joined]
            for start in range(0, len(recordings) - n_joined + 1, n_joined)
        ][:n_texts]
        if not groups:
            return
        joined = [self._joined(group) for group in groups]
        row = {"voice": voice, "texts": f"{LONG_KIND} x {n_joined}"}
        for reading in self.args.readings:
            said = self._speak(voice, reading, joined)
            scored = self._heard({**row, "said": reading}, said)
            heard, texts = scored.pop("heard"), _texts(joined)
            ends = [group[-1].text for group in groups]
            yield {
                **scored,
                **score_words(texts, heard),
                **score_lengths(said, joined),
                **score_ends(ends, texts, heard),
            }

    def _joined(self, group: Sequence[Utterance]) -> Utterance:
        """Recordings one after the other, between them the silence that training leaves."""
        rate, recipe = self.engine.recipe.sample_rate, self.engine.recipe
        pause = np.zeros(round((LEAD + TAIL) * rate), dtype=np.float32)
        still = np.full(
            (recipe.n_mels, round(len(pause) / recipe.hop_length)), np.log(recipe.floor)
        )
        sounds, mels = [group[0].audio], [group[0].mel]
        for one in group[1:]:
            sounds += [pause, one.audio]
            mels += [still, one.mel]
        text = " ".join(one.text for one in group)
        return Utterance(text, np.concatenate(sounds), np.concatenate(mels, 1).astype(np.float32))

    def _speak(self, voice: str, reading: Any, recordings: Sequence[Utterance]) -> list[Utterance]:
        return speak(self.engine, recordings, self.args.seed, speaker=voice, reading=reading)

    def _compared(
        self, row: Numbers, said: Sequence[Utterance], recordings: Sequence[Utterance]
    ) -> Numbers:
        scored = self._heard(row, said)
        heard, texts = scored.pop("heard"), _texts(recordings)
        before = self.ear.words([r.audio for r in recordings], _name(row))
        return {**scored, **score_words(texts, heard, before), **score_lengths(said, recordings)}

    def _heard(self, row: Numbers, said: Sequence[Utterance]) -> Numbers:
        """`row` and what was heard, for a while; the sounds are written where they're wanted."""
        if self.args.output_dir is not None:
            folder: Path = self.args.output_dir / _name(row).replace(" ", "_")
            for i, one in enumerate(said):
                audio.save(folder / f"{i:03d}.wav", one.audio, self.ear.sample_rate)
        return {**row, "heard": self.ear.words([one.audio for one in said], _name(row))}

    def _likeness(
        self, voice: str, copies: Sequence[Utterance], recordings: Sequence[Utterance]
    ) -> Numbers:
        found = [
            self.ear.voices([one.audio for one in said], f"{voice} {what}")
            for what, said in (("copies", copies), ("recordings", recordings))
        ]
        return score_voices(*found)


def _texts(utterances: Sequence[Utterance]) -> list[str]:
    return [one.text for one in utterances]


def _name(row: Numbers) -> str:
    return f"{row['voice']} {row['texts']} {row['said']}"
