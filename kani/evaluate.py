"""Base and experiments say the same sentences, are measured, ranked and can be listened to."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kani.config import DatasetConfig, Experiments, InferenceConfig, ModelConfig
from kani.config_files import read
from kani.evaluation_config import EvalConfig, EvalSet
from kani.evaluation_outputs import Ranked, read_ranked, write_outputs
from kani.experiments import DATA, FAILURE, FAILURE_FORMAT
from kani.hub import model_folder, require_upload
from kani.outputs import base_fingerprint, read_finished
from kani.prepared import read_prepared
from kani.references import References
from kani.speaking import Booth, Line, require_texts, split
from kani.train import RUNS
from kani.weights import load_tokenizer
from ttscommon.checkpoints import fingerprint
from ttscommon.errors import UserError
from ttscommon.evaluation import KEPT
from ttscommon.evaluation.conditions import Utterance, find_utterances
from ttscommon.evaluation.evaluate import evaluate
from ttscommon.evaluation.measuring import Instruments
from ttscommon.evaluation.ranking import OVERALL, rank, require_rankable
from ttscommon.files import read_json
from ttscommon.machine import on_cpu
from ttscommon.outputs import require_new

log = logging.getLogger(__name__)

BASE, REAL = "base", "real"


@dataclass(frozen=True)
class Candidate:
    """A model to judge.

    Attributes:
        settings: everything that it follows from
        mark: of its weights
        trouble: why it can't be judged
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    mark: str = ""
    trouble: str = ""


@dataclass
class Judging:
    """An evaluation of what a folder of YAML files names.

    Args:
        configs: that folder
        output: gets everything; by default as eval_config.yaml says
        recordings: a folder of real speech; by default held-out clips as the codec plays them

    Raises:
        UserError: if a file is wrong, or something couldn't be sent to the hub in the end
    """

    configs: Path
    codec: Path
    output: Path | None = None
    recordings: Path | None = None
    device: str = "auto"
    rank_by: str = OVERALL
    overwrite: bool = False
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_rankable(self.rank_by)
        self.config = self._read(EvalConfig, "eval_config")
        require_upload(self.config.huggingface)
        self.experiments = self._read(Experiments, "experiments")
        dataset = self._read(DatasetConfig, "dataset_config")
        self.speakers = [one.prefix for one in dataset.hf_datasets if one.prefix]
        self.model = self._read(ModelConfig, "model_config")
        self.models = Path(self.config.paths.checkpoints_dir)
        self.folder = self.output or Path(self.config.paths.audio_output_dir)
        self.lines = self._lines(self._read(EvalSet, "eval_set"))
        self.candidates = [self._base(), *map(self._trained, self._names())]
        self.references = self._references()
        self.booth = self._booth(self._read(InferenceConfig, "inference_config"))

    @property
    def able(self) -> list[Candidate]:
        return [one for one in self.candidates if not one.trouble]

    def run(self, instruments: Instruments, *, language: str, most_clips: int) -> Ranked:
        """Speak what wasn't spoken before, measure, and write everything.

        Raises:
            UserError: if something of other settings is in the way, or no model can be judged
        """
        if not self.able:
            one = self.candidates[0]
            raise UserError(f"no model can be judged: {one.name}: {one.trouble}")
        mark = self._mark(instruments)
        self._require_own(mark)
        for one in self.able:
            self._clear(one.name, one.mark, self.lines)
        real = self._real()
        candidates = [self._spoken(one) for one in self.candidates]
        able = [one for one in candidates if not one.trouble]
        if not able:
            raise UserError(f"no model could speak: {candidates[0].trouble}")
        conditions = {one.name: self.booth.utterances(one.name, self.lines) for one in able}
        known = {
            path: facts
            for one in able
            for path, facts in self.booth.known(one.name, one.mark, self.lines).items()
        }
        evaluation = evaluate(
            {**conditions, **({REAL: real} if real else {})},
            instruments,
            cache=self.folder / KEPT,
            n_processes=min(self.config.processing.num_proc, os.cpu_count() or 1),
            known=known,
        )
        ranked = Ranked(
            mark,
            rank(evaluation, self.rank_by),
            evaluation,
            {one.name: one.settings for one in able},
            {one.name: one.trouble for one in candidates if one.trouble},
            self.notes,
        )
        sentences = {
            self.booth.path(c.name, line): line.prompt for c in able for line in self.lines
        }
        write_outputs(self.folder, ranked, sentences, language=language, most_clips=most_clips)
        return ranked

    def _require_own(self, mark: str) -> None:
        """Refuse to replace an evaluation of something else; the same call may end what it began.

        Raises:
            UserError: if there is one
        """
        found = read_ranked(self.folder)
        if found is not None and found["mark"] != mark and not self.overwrite:
            raise UserError(
                "an evaluation of other models or settings is here",
                where=self.folder,
                fix="--overwrite, which speaks only what is new, or another --output-dir",
            )

    def _read(self, cls: type[Any], name: str) -> Any:
        return read(cls, self.configs / f"{name}.yaml").require()

    def _lines(self, found: EvalSet) -> list[Line]:
        lines = []
        for name, sentence in found.sentences.items():
            speaker, text = split(sentence, self.speakers)
            if self.speakers and speaker is None:
                names = ", ".join(self.speakers)
                log.warning("%s begins with no speaker that was trained: %s", name, names)
            lines += [Line(name, text, speaker, seed) for seed in found.seeds]
        require_texts(lines)
        return lines

    def _base(self) -> Candidate:
        name = self.experiments.base_model
        settings = {"base_model": name}
        try:
            folder = model_folder(name)
            return Candidate(BASE, folder, settings, base_fingerprint(folder))
        except UserError as error:
            return Candidate(BASE, Path(name), settings, trouble=str(error))

    def _names(self) -> list[str]:
        """Every experiment of the files, and what a search left."""
        names = [one.base.model_id for one in self.experiments.experiments]
        if self.experiments.sweep is not None:
            found = sorted(self.models.glob(f"{self.experiments.sweep.model_id}-*"))
            names += [path.name for path in found if path.name not in names]
        return names

    def _trained(self, name: str) -> Candidate:
        folder, failure = self.models / name, self.models / RUNS / name / FAILURE
        try:
            known = read_finished(folder)
            if known is None:
                why = f"it isn't trained yet: python tools/kani_train.py --only {name}"
                if failure.is_file():
                    why = (
                        f"its training failed: {read_json(failure, format=FAILURE_FORMAT)['error']}"
                    )
                return Candidate(name, folder, {}, trouble=why)
            settings = {k: v for k, v in known.items() if k not in ("format", "version")}
            return Candidate(name, folder, settings, base_fingerprint(folder))
        except UserError as error:
            return Candidate(name, folder, {}, trouble=str(error))

    def _booth(self, config: InferenceConfig) -> Booth:
        device = config.model.device_map if self.device == "auto" else self.device
        wanted = config.model.torch_dtype.replace("auto", "bfloat16")
        return Booth(
            self.folder,
            self.codec,
            config.generation.sampling(),
            self.model.space,
            paces=self.references.paces() if self.references else {},
            voices=self.references.voices() if self.references else {},
            device=device,
            dtype="float32" if on_cpu(device) else wanted,
        )

    def _spoken(self, one: Candidate) -> Candidate:
        if one.trouble:
            log.warning("%s isn't judged: %s", one.name, one.trouble)
            return one
        try:
            self.booth.speak(one.name, one.folder, one.mark, self.lines)
        except UserError as error:
            why = str(error)  # the error itself would keep the model in a log
            log.warning("%s isn't judged: %s", one.name, why)
            return Candidate(one.name, one.folder, one.settings, one.mark, why)
        finally:
            gc.collect()  # before the next model is read
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return one

    def _clear(self, name: str, mark: str, lines: Sequence[Line]) -> None:
        """Make room in places where clips of other settings are."""
        missing = [self.booth.path(name, line) for line in self.booth.missing(name, mark, lines)]
        stale = [path for path in missing if path.exists()]
        require_new(stale, overwrite=self.overwrite)
        self.booth.clear(stale)

    def _mark(self, instruments: Instruments) -> str:
        clips = [
            [one.name, *(self.booth.key(one.mark, x) for x in self.lines)] for one in self.able
        ]
        troubles = [one.name for one in self.candidates if one.trouble]
        real = [str(self.recordings), self.references.mark if self.references else ""]
        return fingerprint(clips, troubles, real, instruments.key, self.rank_by)

    def _references(self) -> References | None:
        """What the experiments were trained on, where it is still there."""
        try:
            tokenizer = load_tokenizer((self.able or self.candidates)[0].folder)
            prepared = read_prepared(self.models / DATA, self.model.space)
        except UserError as error:
            self.notes["length_ratio"] = f"the clips that were trained on can't be read: {error}"
            return None
        return References(prepared, tokenizer, self.speakers, self.model.codec.fps)

    def _real(self) -> Sequence[Utterance]:
        """Speech to be like: held-out clips are the best that a model with this codec can reach."""
        if self.recordings is not None:
            return find_utterances(self.recordings)
        if self.references is None:
            return []
        clips, mark = self.references.held_out(), self.references.mark
        lines = [line for line, _ in clips]
        self._clear(REAL, mark, lines)
        self.booth.play(REAL, mark, clips)
        return self.booth.utterances(REAL, lines)
