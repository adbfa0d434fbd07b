"""What a run let hear and see at its evaluations, as files beside its log.

`samples.jsonl` lists them: step, name, kind, file, and the words or the size. A sound and the
pictures that belong to it have like names: "generated", "mel/generated", "alignment/generated".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import matplotlib.image
import numpy as np
import soundfile
from numpy.typing import NDArray

from ttscommon.files import atomic
from ttscommon.records import append_record, keep_until, write_records

PICTURE_QUALITY = 80  # WebP
N_NEWEST = 10  # evaluations whose samples stay, 0.3 MB each; beside the first and the best


@dataclass(frozen=True)
class Sample:
    """One sound or picture.

    Attributes:
        file: relative to the run's folder
        text: the words of a sound, where they are known
        width: of a picture, in pixels
    """

    step: int
    name: str
    kind: Literal["sound", "picture"]
    file: str
    text: str = ""
    width: int = 0

    @property
    def group(self) -> str:
        """What is heard or shown: a sound's name; what follows the aspect in a picture's."""
        return self.name if self.kind == "sound" else self.name.partition("/")[2] or self.name

    @property
    def aspect(self) -> str:
        """Which picture of it this is: "mel", "alignment"; empty for a sound."""
        is_plain = self.kind == "sound" or "/" not in self.name
        return "" if is_plain else self.name.partition("/")[0]


class Samples:
    """The samples of one run.

    Args:
        folder: the run's log folder
        start: the step the run goes on from; samples of later steps are deleted
    """

    def __init__(self, folder: Path, *, start: int):
        self.folder = folder
        self._list = folder / "samples.jsonl"
        kept, dropped = keep_until(self._list, start)
        self.kept = [Sample(**record) for record in kept]
        for record in dropped:
            (folder / record["file"]).unlink(missing_ok=True)

    def add_sound(
        self, name: str, step: int, audio: NDArray, sample_rate: int, text: str = ""
    ) -> None:
        """Keep mono audio (S,)."""
        sample = Sample(step, name, "sound", _file(name, step, "flac"), text)
        with atomic(self.folder / sample.file) as draft:
            sound = np.clip(np.nan_to_num(audio), -1, 1)
            soundfile.write(draft, sound, sample_rate, format="FLAC", subtype="PCM_16")
        self._add(sample)

    def add_picture(self, name: str, step: int, pixels: NDArray) -> None:
        """Keep a picture (H, W, 3) of numbers from 0 to 1."""
        sample = Sample(step, name, "picture", _file(name, step, "webp"), width=pixels.shape[1])
        with atomic(self.folder / sample.file) as draft:
            shades = np.ascontiguousarray(np.clip(pixels, 0, 1))
            options = {"quality": PICTURE_QUALITY}
            matplotlib.image.imsave(draft, shades, format="webp", pil_kwargs=options)
        self._add(sample)

    def prune(self, best: Collection[int], *, n_newest: int = N_NEWEST) -> None:
        """Of each sound and picture keep the first, the newest and the best; delete the others.

        Args:
            best: steps whose samples stay
        """
        steps: dict[str, set[int]] = {}
        for sample in self.kept:
            steps.setdefault(sample.name, set()).add(sample.step)
        stay = {name: {*best, min(own), *sorted(own)[-n_newest:]} for name, own in steps.items()}
        gone = [sample for sample in self.kept if sample.step not in stay[sample.name]]
        if not gone:
            return
        for sample in gone:  # first the files: a kill leaves a line without a file, not rubbish
            (self.folder / sample.file).unlink(missing_ok=True)
        self.kept = [sample for sample in self.kept if sample.step in stay[sample.name]]
        write_records(self._list, [asdict(sample) for sample in self.kept])

    def _add(self, sample: Sample) -> None:
        append_record(self._list, asdict(sample))
        self.kept.append(sample)


def _file(name: str, step: int, suffix: str) -> str:
    slug = re.sub(r"\W+", "-", name).strip("-").lower() or "sample"
    return f"samples/{step:07d}-{slug}.{suffix}"
