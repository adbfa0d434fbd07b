"""The stages of the experiment on speech; each skips what is there already."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.pattern_experiment import speech_measure
from examples.pattern_experiment.speech_bank import RATE, VOICES, record_voice
from examples.pattern_experiment.speech_base import fluent_errors, train_base, untrained
from examples.pattern_experiment.speech_codes import Encoder, Quantiser, load_encoder
from examples.pattern_experiment.speech_corpus import (
    N_SPEAKERS,
    N_VALIDATION,
    Studio,
    encode,
    write_manifests,
)
from examples.pattern_experiment.speech_mel import MelNetwork, load_mel, mel_of, spoken, train_mel
from examples.pattern_experiment.speech_patterns import Learned, Stack, learn, say_all
from examples.pattern_experiment.speech_texts import sentence, targets
from ttscommon.audio import save
from ttscommon.errors import UserError
from ttscommon.files import read_json, write_json
from ttscommon.transcribe import load_transcriber
from ttscommon.workspace import SystemFolder

log = logging.getLogger(__name__)

CLIPS_FOR_CODEC = 8  # of each speaker
SENTENCES_TO_COPY = 4  # of each voice
BETWEEN = 12_000  # samples of silence
RECORD, FORMAT, VERSION = "seed.json", "voxtune.pattern_speech", 1
FIRST_SEED = 0  # of folders from before it was written down


@dataclass(frozen=True)
class Experiment:
    """Where everything is, and how much is done.

    Attributes:
        output: folder of all stages
        whisper: CTranslate2 folder
        packages: of the voices
        seed: of voices, texts and base, one for each folder
        pattern_seed: of the patterns, and of what they say
        n_speakers: that teach the base
    """

    output: Path
    whisper: Path
    packages: Path
    base_steps: int
    mel_steps: int
    pattern_steps: int
    seed: int
    pattern_seed: int = 0
    n_speakers: int = N_SPEAKERS

    def require_seed(self) -> None:
        """Refuse a folder of another seed: its stages would be taken for this one's.

        Raises:
            UserError: naming the seed of the folder
        """
        path, kept = self.output / RECORD, self.seed
        if path.is_file():
            kept = read_json(path, format=FORMAT)["seed"]
        elif (self.output / "bank").is_dir():
            kept = FIRST_SEED
        if kept != self.seed:
            fix = f"--output-dir ELSEWHERE, or --seed {kept} --pattern-seed {self.seed}"
            raise UserError(f"what is here was made with seed {kept}", where=self.output, fix=fix)
        write_json(path, {"format": FORMAT, "version": VERSION, "seed": kept})

    @property
    def studio(self) -> Studio:
        return Studio(self.output / "bank", self.seed, n_speakers=self.n_speakers)

    @property
    def encoder(self) -> Encoder:
        return load_encoder(self.whisper)

    @property
    def quantiser(self) -> Quantiser:
        return Quantiser.load(self.output / "quantiser.safetensors")

    @property
    def mel(self) -> MelNetwork:
        return load_mel(self.output / "mel.pt")

    @property
    def stack(self) -> Stack:
        return Stack(
            self.studio,
            self.encoder,
            self.quantiser,
            self.mel,
            self.output / "corpus",
            self.output / "patterns",
            SystemFolder(self.output / "base").best_model,
        )

    def bank(self) -> None:
        """The voices say the phrases."""
        from examples.embedded_voice.engines import speak_all  # onnxruntime loads here

        speak = functools.partial(speak_all, packages=self.packages)
        for name in VOICES:
            record_voice(self.output / "bank" / f"{name}.npz", name, speak, self.seed)

    def codec(self) -> None:
        """A quantiser, and a network from its codes back to sound."""
        path, mel = self.output / "quantiser.safetensors", self.output / "mel.pt"
        if mel.is_file():
            return
        clips = [
            clip
            for speaker in self.studio.speakers()[:N_SPEAKERS]
            for clip in self.studio.clips(speaker, CLIPS_FOR_CODEC)
        ]
        features = [self.encoder(clip.recording.audio) for clip in clips]
        voices = [clip.speaker.voice for clip in clips]
        if not path.is_file():
            Quantiser.learned(features, voices, self.seed).save(path)
        quantiser = self.quantiser
        codes = [quantiser.codes(own, v) for own, v in zip(features, voices, strict=True)]
        mels = [mel_of(c.recording.audio, len(own)) for c, own in zip(clips, codes, strict=True)]
        n = len(quantiser.centroids)
        train_mel(mel, codes, voices, mels, n_codes=n, steps=self.mel_steps, seed=self.seed)

    def ceiling(self) -> list[str]:
        """How recordings are understood, before and after they were codes: a table."""
        recogniser = load_transcriber(str(self.whisper), "cpu")
        mel, quantiser, texts = self.mel, self.quantiser, []
        heard: dict[str, list[str]] = {"recordings": [], "copies": []}
        for speaker in self.studio.prompters():
            sounds: dict[str, list[np.ndarray]] = {"recordings": [], "copies": []}
            own = self.studio.test_texts()[speaker.voice :: len(VOICES)][:SENTENCES_TO_COPY]
            for text in own:
                said = self.studio.said(speaker, text, "ceiling").audio
                codes = quantiser.codes(self.encoder(said), speaker.voice)
                sounds["recordings"].append(said)
                sounds["copies"].append(spoken(mel, codes, speaker.voice))
            texts.append(" ".join(sentence(text) for text in own))
            for name, parts in sounds.items():  # one after the other, as Whisper reads 30 s at once
                whole = np.concatenate([np.pad(part, (0, BETWEEN)) for part in parts])
                save(self.output / "ceiling" / name / f"{VOICES[speaker.voice]}.wav", whole, RATE)
                heard[name].append(recogniser.text(whole, RATE, "en"))
        errors = {name: fluent_errors(texts, own) for name, own in heard.items()}
        write_json(self.output / "ceiling.json", {"fluent_wer": errors, "texts": texts, **heard})
        return [f"fluent WER of {name}: {value:.1%}" for name, value in errors.items()]

    def corpus(self) -> None:
        """The recordings of all speakers, as codes."""
        quantiser = self.quantiser
        for speaker in [*self.studio.speakers(), *self.studio.prompters()]:
            folder = self.output / "corpus" / speaker.name
            if not (folder / "lines.jsonl").is_file():
                encode(list(self.studio.clips(speaker)), folder, self.encoder, quantiser)
                log.info("encoded %s", speaker.name)

    def base(self) -> None:
        """A language model that speaks."""
        start, corpus = self.output / "base" / "untrained.pth", self.output / "corpus"
        mark = untrained(start, self.seed)
        folders = [corpus / speaker.name for speaker in self.studio.speakers()]
        held_out = dict.fromkeys(folders, N_VALIDATION)
        manifests = write_manifests(corpus, folders, held_out, mark)
        train_base(manifests, start, self.output / "base", steps=self.base_steps)

    def patterns(self) -> dict[str, Learned]:
        """The patterns of the two people, and adapters."""
        options = {"steps": self.pattern_steps, "seed": self.pattern_seed}
        return {target: learn(self.stack, target, **options) for target in targets()}

    def speak(self) -> dict[str, dict[str, Path]]:
        """All conditions say the texts of the test: {target: {condition: folder}}."""
        learned, folder = self.patterns(), self.output / f"spoken{self._suffix}"
        return {
            target: say_all(self.stack, folder, target, learned, seed=self.pattern_seed)
            for target in targets()
        }

    def judge(self) -> list[str]:
        """The table."""
        found, results = [], []
        recogniser = load_transcriber(str(self.whisper), "cpu")
        for target, folders in self.speak().items():
            outcome = speech_measure.compare(target, folders, recogniser, self.output / "heard")
            results.append(outcome.to_dict())
            found += [*speech_measure.lines(outcome), ""]
        write_json(self.output / f"result{self._suffix}.json", {"targets": results})
        return found

    @property
    def _suffix(self) -> str:
        """Of what differs between seeds of the patterns."""
        return f"_seed{self.pattern_seed}" if self.pattern_seed else ""
