"""`training/<speaker>/`: the only place where the paths inside a speaker's folder are spelled."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ttscommon.errors import UserError
from ttscommon.files import recover_folder

TRAINING_ROOT = Path("training")
SYSTEM_NAMES = ("lewm", "higgs", "kani")
CHECKPOINT_FOLDERS = ("best_checkpoint", "final_checkpoint")
ADAPTER_FILE = "adapter_config.json"  # in a folder that peft writes
TRAIN_MANIFEST, VALIDATION_MANIFEST = "train_manifest.jsonl", "val_manifest.jsonl"


@dataclass(frozen=True)
class Speaker:
    """One person's folder.

    ```
    training/<name>/
      dataset/audio/             the recordings, of any length
      dataset/transcripts.csv    audio_path,text written by hand
      dataset/clips/             what tools/segment_recordings.py cut out of them, see clips.jsonl
      dataset/transcripts_verbatim.csv, words.json   what Whisper heard in the clips
      dataset/excluded.txt       clips that nothing is to be made of, a line each
      dataset/validation.html    what is odd about clips and texts
      dataset/processed/         the clips as IndexTTS2 trains on them
      dataset/processed_v3/      the same with how they are spoken: pauses, fillers, stutters, pace
      embeddings/speaker_embeddings.pt   the voice as IndexTTS2 stores it
      lora/ finetune/            IndexTTS2's language model, trained for the speaker
      pattern_conditioning.pt    what IndexTTS2's language model makes of several clips together
      pattern_training/          the speaker's manner of speaking, with a LoRA of its own
      lewm/ higgs/ kani/         one SystemFolder per system
      outputs/                   speech that was generated
      test_outputs/              a few texts in the speaker's manner
      pattern_evaluation/        what the pattern does, as a page
      pipeline.json              how far a one-command tool has come
      report.html
    ```

    Raises:
        UserError: if the name could lead out of `root` (separators, "..", a leading dot)
    """

    name: str
    root: Path = TRAINING_ROOT

    def __post_init__(self) -> None:
        if not _is_safe_name(self.name):
            raise UserError(
                f"'{self.name}' can't be a speaker's name",
                fix="use letters, digits, '_', '-' and '.', for example --speaker ozzy",
            )

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def data(self) -> DatasetFolder:
        return DatasetFolder(self.folder / "dataset")

    @property
    def dataset(self) -> Path:
        return self.data.folder

    @property
    def audio(self) -> Path:
        return self.data.audio

    @property
    def transcripts(self) -> Path:
        return self.data.transcripts

    @property
    def clips(self) -> Path:
        return self.data.clips

    @property
    def clips_manifest(self) -> Path:
        return self.data.clips_manifest

    @property
    def clips_folder(self) -> Path:
        """What to train on: `clips` where recordings were cut, else the recordings themselves."""
        return self.clips if self.clips_manifest.is_file() else self.audio

    @property
    def segmentation(self) -> Path:
        return self.data.segmentation

    @property
    def transcripts_verbatim(self) -> Path:
        return self.data.transcripts_verbatim

    @property
    def words(self) -> Path:
        return self.data.words

    @property
    def transcription_stats(self) -> Path:
        return self.data.transcription_stats

    @property
    def excluded(self) -> Path:
        return self.data.excluded

    @property
    def validation(self) -> Path:
        return self.data.validation

    @property
    def validation_page(self) -> Path:
        return self.data.validation_page

    @property
    def processed(self) -> Path:
        """What tools/prepare_lora_dataset.py makes of the clips."""
        return self.dataset / "processed"

    @property
    def processed_v3(self) -> Path:
        """What tools/prepare_pattern_dataset_v3.py makes of the clips."""
        return self.dataset / "processed_v3"

    @property
    def strangers(self) -> Path:
        """Prepared clips of somebody else, to prompt with."""
        return self.dataset / "strangers"

    @property
    def pattern_conditioning(self) -> Path:
        """The speaker as IndexTTS2's language model knows them from several clips."""
        return self.folder / "pattern_conditioning.pt"

    @property
    def speaker_embeddings(self) -> Path:
        return self.folder / "embeddings" / "speaker_embeddings.pt"

    @property
    def lora(self) -> SystemFolder:
        """Adapters of IndexTTS2."""
        return SystemFolder(self.folder / "lora")

    @property
    def finetune(self) -> SystemFolder:
        """IndexTTS2's language model, fully fine-tuned."""
        return SystemFolder(self.folder / "finetune")

    @property
    def pattern_training(self) -> SystemFolder:
        """The speaker's manner of speaking, as IndexTTS2 learned it."""
        return SystemFolder(self.folder / "pattern_training")

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    @property
    def comparison(self) -> Path:
        """The same texts by one model after the other."""
        return self.outputs / "comparison"

    @property
    def test_outputs(self) -> Path:
        """A few texts in the speaker's manner."""
        return self.folder / "test_outputs"

    @property
    def pattern_speech(self) -> Path:
        """The same texts with and without the pattern, a folder for each condition."""
        return self.outputs / "patterns"

    @property
    def pattern_evaluation(self) -> Path:
        """What tools/evaluate_patterns.py found out."""
        return self.folder / "pattern_evaluation"

    @property
    def evaluation(self) -> Path:
        """What tools/evaluate.py found out."""
        return self.folder / "evaluation"

    @property
    def pipeline(self) -> Path:
        return self.folder / "pipeline.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def lewm(self) -> SystemFolder:
        return SystemFolder(self.folder / "lewm")

    @property
    def higgs(self) -> SystemFolder:
        return SystemFolder(self.folder / "higgs")

    @property
    def kani(self) -> SystemFolder:
        return SystemFolder(self.folder / "kani")

    @property
    def systems(self) -> dict[str, SystemFolder]:
        """Those that have a folder here, by name."""
        folders = {name: SystemFolder(self.folder / name) for name in SYSTEM_NAMES}
        return {name: folder for name, folder in folders.items() if folder.folder.is_dir()}


@dataclass(frozen=True)
class DatasetFolder:
    """Recordings, clips and texts: `training/<name>/dataset`, or a free-standing `--output-dir`."""

    folder: Path

    @classmethod
    def of_sounds(cls, folder: Path) -> DatasetFolder:
        """The data set whose clips or recordings lie in `folder`; else the folder is one itself.

        A folder that links elsewhere belongs where the link lies. Only what has no such name as it
        is written ("..", a link to a data set's clips) is looked at where it leads.
        """
        for place in (folder.absolute(), folder.resolve()):
            data = cls(place.parent)
            if place in (data.clips, data.audio):
                return data
        return cls(folder)

    @property
    def audio(self) -> Path:
        return self.folder / "audio"

    @property
    def clips(self) -> Path:
        return self.folder / "clips"

    @property
    def clips_manifest(self) -> Path:
        """Which recording each clip comes from, as `ttscommon.manifest` writes it."""
        return self.folder / "clips.jsonl"

    @property
    def segmentation(self) -> Path:
        """What was cut, and what was left out."""
        return self.folder / "segmentation.json"

    @property
    def excluded(self) -> Path:
        """Names of clips and recordings that nothing is to be made of, a line each."""
        return self.folder / "excluded.txt"

    @property
    def transcripts(self) -> Path:
        """Texts by hand: audio_path,text."""
        return self.folder / "transcripts.csv"

    @property
    def transcripts_verbatim(self) -> Path:
        """What a recogniser heard: filename,text,verbatim,duration,num_pauses,num_fillers."""
        return self.folder / "transcripts_verbatim.csv"

    @property
    def words(self) -> Path:
        """When each word of each clip is said."""
        return self.folder / "words.json"

    @property
    def transcription_stats(self) -> Path:
        return self.folder / "transcription_stats.json"

    @property
    def validation(self) -> Path:
        return self.folder / "validation.json"

    @property
    def validation_page(self) -> Path:
        return self.folder / "validation.html"


@dataclass(frozen=True)
class SystemFolder:
    """One system's work for one speaker (or a free-standing `--output-dir`)."""

    folder: Path

    @property
    def processed(self) -> Path:
        return self.folder / "processed"

    @property
    def manifest(self) -> Path:
        """Of the clips in `processed`."""
        return self.processed / "manifest.jsonl"

    @property
    def best_checkpoint(self) -> Path:
        return self.folder / "best_checkpoint"

    @property
    def final_checkpoint(self) -> Path:
        return self.folder / "final_checkpoint"

    @property
    def best_audio(self) -> Path:
        """The checkpoint that sounds best, which needn't be the one of the lowest loss."""
        return self.folder / "best_audio"

    @property
    def best_model(self) -> Path:
        """The best checkpoint, where it is a single file."""
        return self.folder / "best_model.pth"

    @property
    def latest(self) -> Path:
        """The last checkpoint, where it is a single file."""
        return self.folder / "latest.pth"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def run(self, stage: str) -> Path:
        """Where one training stage keeps the state it resumes from."""
        return self.folder / "runs" / stage


def find_speakers(root: Path = TRAINING_ROOT) -> list[Speaker]:
    """Everybody who has a folder under `root`, by name."""
    if not root.is_dir():
        return []
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    return [Speaker(name, root) for name in names if _is_safe_name(name)]


def speaker_flags(speakers: Sequence[Speaker]) -> list[str]:
    """How a command names these speakers, who share a root."""
    root = speakers[0].root
    elsewhere = [] if root == TRAINING_ROOT else ["--training-root", str(root)]
    return ["--speaker", *(speaker.name for speaker in speakers), *elsewhere]


def resolve_checkpoint(path: Path) -> Path:
    """The checkpoint folder meant by `path`.

    The LeWM guide writes `<output>/checkpoints/best.pt`; ours is `<output>/best_checkpoint`.

    Raises:
        UserError: if there is no checkpoint at `path`
    """
    candidates = [path]
    if path.suffix == ".pt":
        candidates.append(path.parent.parent / f"{path.stem}_checkpoint")
    candidates += [path / name for name in CHECKPOINT_FOLDERS]
    for candidate in candidates:
        recover_folder(candidate)
        if (candidate / "config.json").is_file():
            return candidate
    raise UserError(
        "no checkpoint here", where=path, fix="train one: python tools/lewm_train.py --speaker NAME"
    )


def _is_safe_name(name: str) -> bool:
    """Letters, marks and digits of any script, and `_-. ` between them."""
    inner = all(c in "_-. " or unicodedata.category(c)[0] in "LMN" for c in name)
    return inner and name[:1] not in {"", "-", ".", " "} and name[-1] != " " and ".." not in name
