"""What was trained for a speaker, and which of it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ttscommon.errors import UserError
from ttscommon.files import read_json, recover_folder
from ttscommon.workspace import ADAPTER_FILE, TRAINING_ROOT, Speaker, find_speakers

Kind = Literal["base", "lora", "finetune", "pattern"]
ModelType = Literal["auto", "base", "lora", "finetune", "pattern"]
MODEL_TYPES = get_args(ModelType)
PATTERN_FILE, ADAPTER_FOLDER = "pattern_embedding.pt", "lora"  # of a pattern's checkpoint
METADATA_FILE, METADATA_FORMAT = "training_metadata.json", "indextts.gpt_training"
# Times the lowest loss of held-out clips; what sounded better in a few sentences comes first up to
# there.
LIKE_LOSS = 1.02
TRAINED_BY = {
    "lora": "python tools/train_gpt_lora.py --speaker",
    "finetune": "python tools/train_gpt_finetune.py --speaker",
    "pattern": "python tools/train_pattern_embeddings.py --speaker",
}


@dataclass(frozen=True)
class Tuned:
    """One of the models that speak for a speaker.

    Attributes:
        path: folder of the adapter, file of the fine-tuned weights, file of the pattern; None for
            the base
    """

    kind: Kind
    path: Path | None = None

    @property
    def lora_path(self) -> Path | None:
        """Of a pattern, the adapter that was trained around it, if there is one."""
        if self.kind == "pattern" and self.path is not None:
            return adapter_beside(self.path)
        return self.path if self.kind == "lora" else None

    @property
    def pattern_path(self) -> Path | None:
        return self.path if self.kind == "pattern" else None

    @property
    def gpt_checkpoint(self) -> Path | None:
        return self.path if self.kind == "finetune" else None

    def __str__(self) -> str:
        names = {"base": "the base model", "lora": "LoRA", "finetune": "fully fine-tuned model"}
        names["pattern"] = "pattern"
        return names[self.kind] + (f" {self.path}" if self.path else "")


def trained(speaker: Speaker) -> dict[Kind, Tuned]:
    """What there is besides the base: of adapters the one that is to be preferred."""
    found: dict[Kind, Tuned] = {}
    folder = adapter_of(speaker)
    if folder is not None:
        found["lora"] = Tuned("lora", folder)
    by_ear, by_loss = speaker.finetune.best_audio.with_suffix(".pth"), speaker.finetune.best_model
    told = [path.with_suffix(".json") for path in (by_ear, by_loss)]
    whole = (by_ear, by_loss) if _is_alike(*told) else (by_loss, by_ear)
    file = next((path for path in whole if path.is_file()), None)
    if file is not None:
        found["finetune"] = Tuned("finetune", file)
    pattern = next((path for path in patterns(speaker) if path.is_file()), None)
    if pattern is not None:
        found["pattern"] = Tuned("pattern", pattern)
    return found


def patterns(speaker: Speaker) -> tuple[Path, ...]:
    """Where patterns of a speaker are, the best first: by its loss, the last one."""
    home = speaker.pattern_training
    for folder in (home.best_checkpoint, home.final_checkpoint):
        recover_folder(folder)
    return home.best_checkpoint / PATTERN_FILE, home.final_checkpoint / PATTERN_FILE


def adapter_beside(pattern: Path) -> Path | None:
    """The adapter that was trained around a pattern, if there is one."""
    folder = pattern.parent / ADAPTER_FOLDER
    return folder if folder.is_dir() else None


def adapters(speaker: Speaker) -> tuple[Path, ...]:
    """Where adapters of a speaker are, the best first: by its sound, by its loss, the last one.

    By its sound only if its loss is like the lowest: what is heard are a few sentences.
    """
    lora = speaker.lora
    for folder in (lora.best_audio, lora.best_checkpoint, lora.final_checkpoint):
        recover_folder(folder)
    by_ear, by_loss = lora.best_audio, lora.best_checkpoint
    if not _is_alike(by_ear / METADATA_FILE, by_loss / METADATA_FILE):
        by_ear, by_loss = by_loss, by_ear
    return by_ear, by_loss, lora.final_checkpoint


def _is_alike(by_ear: Path, by_loss: Path) -> bool:
    """From what is told of two checkpoints; True where their losses aren't known."""
    told = [read_json(path) if path.is_file() else {} for path in (by_ear, by_loss)]
    heard, lowest = (one.get("metrics", {}).get("loss") for one in told)
    return heard is None or lowest is None or heard <= LIKE_LOSS * lowest


def adapter_of(speaker: Speaker) -> Path | None:
    """The adapter that is to be preferred, if there is one."""
    return next((path for path in adapters(speaker) if is_adapter(path)), None)


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_FILE).is_file()


def choose(speaker: Speaker, wanted: ModelType = "auto") -> Tuned:
    """What speaks for a speaker; "auto": fully fine-tuned before LoRA before pattern before base.

    The pattern comes last because what it does is to be measured first.

    Raises:
        UserError: if what is wanted was never trained
    """
    if wanted == "base":
        return Tuned("base")
    found = trained(speaker)
    if wanted == "auto":
        by_rank: tuple[Kind, ...] = ("finetune", "lora", "pattern")
        return next((found[kind] for kind in by_rank if kind in found), Tuned("base"))
    if wanted not in found:
        names = {"lora": "LoRA", "finetune": "fine-tuned model", "pattern": "pattern embedding"}
        places = {"lora": speaker.lora, "finetune": speaker.finetune}
        place = places.get(wanted, speaker.pattern_training).folder
        what = f"'{speaker.name}' has no {names[wanted]}"
        raise UserError(what, where=place, fix=f"{TRAINED_BY[wanted]} {speaker.name}")
    return found[wanted]


def listing(root: Path = TRAINING_ROOT) -> list[str]:
    """A line for each speaker who can speak: with which models, whether the voice is stored.

    Raises:
        UserError: if there is nobody
    """
    rows = [(speaker, trained(speaker)) for speaker in find_speakers(root)]
    rows = [(s, models) for s, models in rows if models or s.speaker_embeddings.is_file()]
    if not rows:
        fix = "python tools/train_gpt_lora.py --speaker NAME"
        raise UserError("nobody has a voice or an adapter here", where=root, fix=fix)
    width = max(len(speaker.name) for speaker, _ in rows)
    return [
        f"{speaker.name:{width}}  {', '.join(['base', *models]):29}  "
        + ("voice stored" if speaker.speaker_embeddings.is_file() else "no stored voice")
        for speaker, models in rows
    ]
