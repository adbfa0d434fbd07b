"""What `finetune` does for each speaker: recordings, training, and what became of the voice."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples.closed_grammar.evaluation import Utterance, read_held_out, speak
from examples.embedded_voice.finetune import ALONE, COMMANDS, FREE, HUMAN
from examples.embedded_voice.hearing import Ear
from examples.embedded_voice.scoring import Numbers, score_words
from examples.embedded_voice.texts import read_texts
from examples.embedded_voice.voices import SAMPLE_RATE, named
from lewm import weights
from lewm.config import PreprocessConfig, TrainConfig
from lewm.embedded_voice import EMBEDDED_SPEAKER
from lewm.inference_engine import Engine
from lewm.preprocess import prepare
from lewm.train import train
from lewm.window import DEFAULT_WINDOW
from ttscommon import audio
from ttscommon.errors import UserError
from ttscommon.evaluation.voices import mean_voice, similarity
from ttscommon.files import atomic_folder, read_json, write_json
from ttscommon.workspace import Speaker, SystemFolder, resolve_checkpoint

HELD_OUT_EVERY = 4  # of the prompts


class Tuning:
    """The experiment, as the command line asks for it.

    Args:
        args: of `finetune.build_parser`
        ear: instead of the recogniser that `args` names
    """

    def __init__(self, args: Any, ear: Ear | None = None):
        self.args, self.folder = args, args.folder
        self.checkpoint = resolve_checkpoint(args.init_from)
        self.model_config, _ = weights.describe(self.checkpoint)
        self.plain = [text for _, text in read_texts(args.texts)][: args.limit]
        self.ear = ear

    def base(self, speaker: str) -> Numbers:
        """How the voice reads before it is tuned."""
        self._bring(speaker)
        row = {"speaker": speaker, "variant": "the base", "cpu_seconds": 0.0}
        return row | self._measured(speaker, self.checkpoint, "the base")

    def tuned(self, speaker: str, variant: str, config: TrainConfig) -> Numbers:
        """Train, unless it's done, and measure."""
        self._bring(speaker)
        home = Speaker(speaker, self.folder)
        language = next(iter(self.model_config.languages), "en")
        prepare(
            home,
            PreprocessConfig(max_seconds=15.0, transcribe="never", workers=1, language=language),
        )
        name = "recipe" if variant in (ALONE, FREE) else variant
        output = SystemFolder(self.folder / "runs" / speaker / name.replace(" ", "_"))
        seconds = self._train([home.lewm.processed], output, config)
        checkpoint = output.run("speaker") / "best" if variant == ALONE else output.best_checkpoint
        row = {"speaker": speaker, "variant": variant, "cpu_seconds": seconds}
        return row | self._measured(speaker, checkpoint, variant)

    def _train(self, processed: list[Path], output: SystemFolder, config: TrainConfig) -> float:
        """Processor seconds of the training, those before a stop with Ctrl-C as well."""
        path = output.folder / "spent.json"
        spent = read_json(path) if path.exists() else {"seconds": 0.0, "finished": False}
        if spent["finished"]:
            return spent["seconds"]
        began = _cpu_seconds()
        try:
            train(
                processed,
                output,
                self.model_config,
                config,
                device=self.args.device,
                init_from=self.checkpoint,
            )
            spent["finished"] = True
        finally:
            spent["seconds"] += _cpu_seconds() - began
            write_json(path, spent)
        return spent["seconds"]

    def _measured(self, speaker: str, checkpoint: Path, what: str) -> Numbers:
        """How like the speaker it is, and how it reads held-out prompts and plain sentences."""
        engine = Engine(checkpoint, device=self.args.device, vocoder=self.args.vocoder)
        rate = engine.recipe.sample_rate
        ear = self.ear = self.ear or Ear(self.args.whisper_model, rate, self.folder / "heard.jsonl")
        voice = engine.voice(None, speaker) or engine.voice(None, EMBEDDED_SPEAKER)
        recordings = read_held_out(self.folder / "heldout" / speaker, engine)
        name, window = f"{speaker} {what}", None if what == FREE else DEFAULT_WINDOW
        said = speak(engine, recordings, 0, speaker=voice, window=window)
        target = mean_voice(ear.voices([r.audio for r in recordings], f"{speaker} recordings"))
        voices = ear.voices([s.audio for s in said], name)
        heard_recordings = ear.words([r.audio for r in recordings], f"{speaker} recordings")
        texts = [r.text for r in recordings]
        heard = ear.words([s.audio for s in said], name)
        silence = np.zeros(1, np.float32), np.zeros((1, 1), np.float32)
        sentences = [Utterance(text, *silence) for text in self.plain]
        plain = speak(engine, sentences, 0, speaker=voice, window=window)
        heard_plain = ear.words([s.audio for s in plain], f"{name} plain")
        lengths = [len(s.audio) / len(r.audio) for s, r in zip(said, recordings, strict=True)]
        quality = ear.quality([s.audio for s in said], name)
        return {
            "similarity": float(np.mean([similarity(one, target) for one in voices])),
            "own": score_words(texts, heard, heard_recordings),
            "plain": score_words(self.plain, heard_plain),
            "length_ratio": float(np.mean(lengths)),
            "runaways": sum(s.ran_away for s in [*said, *plain]),
            "dnsmos": float(np.mean(quality)),
            "step": engine.info.step,
            "metrics": engine.info.metrics,
        }

    def _bring(self, speaker: str) -> None:
        """The speaker's prompts: to train on, and apart from them to measure on."""
        with (HUMAN / "transcripts.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        held_out = rows[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        training = [row for row in rows if row not in held_out]
        home = Speaker(speaker, self.folder)
        for folder, chosen in (
            (home.dataset, training),
            (self.folder / "heldout" / speaker, held_out),
        ):
            if folder.exists():
                continue
            with atomic_folder(folder) as draft:
                (draft / "audio").mkdir(parents=True)
                said = self._said(speaker, chosen, draft)
                with (draft / "transcripts.csv").open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, ["audio_path", "text"])
                    writer.writeheader()
                    writer.writerows(said)

    def _said(
        self, speaker: str, rows: Sequence[dict[str, str]], folder: Path
    ) -> list[dict[str, str]]:
        """Prompts, recorded or synthesised, in the folder; their rows of its table."""
        voice = named([speaker])
        if not voice:
            return [_said(speaker, row, folder) for row in rows]
        from examples.embedded_voice.engines import speak_all  # onnxruntime loads here

        sounds = speak_all(voice[0], [row["text"] for row in rows], 0, self.args.packages)
        told = []
        for row, sound in zip(rows, sounds, strict=True):
            name = f"audio/{Path(row['audio_path']).stem}.wav"
            audio.save(folder / name, sound, SAMPLE_RATE)
            told.append({"audio_path": name, "text": row["text"]})
        return told


def _said(speaker: str, row: dict[str, str], folder: Path) -> dict[str, str]:
    """One prompt, recorded or synthesised, in the folder; its row of the table."""
    source = HUMAN / row["audio_path"]
    if not COMMANDS[speaker]:
        shutil.copyfile(source, folder / row["audio_path"])
        return {"audio_path": row["audio_path"], "text": row["text"]}
    name = f"audio/{source.stem}.wav"
    words = [word.format(text=row["text"], path=folder / name) for word in COMMANDS[speaker]]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"can't run {words[0]}", fix=f"apt-get install {words[0]}") from error
    return {"audio_path": name, "text": row["text"]}


def _cpu_seconds() -> float:
    """Processor seconds of this process and of those it waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
