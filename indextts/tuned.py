"""What was trained for a speaker, and which of it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ttscommon.errors import UserError
from ttscommon.files import read_json, recover_folder
from ttscommon.workspace import TRAINING_ROOT, Speaker, find_speakers

Kind = Literal["base", "lora", "finetune"]
ModelType = Literal["auto", "base", "lora", "finetune"]
MODEL_TYPES = get_args(ModelType)
ADAPTER_FILE = "adapter_config.json"
METADATA_FILE, METADATA_FORMAT = "training_metadata.json", "indextts.gpt_training"
# Times the lowest loss of held-out clips; what sounded better in a few sentences comes first up to
# there.
LIKE_LOSS = 1.02
TRAINED_BY = {
    "lora": "python tools/train_gpt_lora.py --speaker",
    "finetune": "python tools/train_gpt_finetune.py --speaker",
}


@dataclass(frozen=True)
class Tuned:
    """One of the models that speak for a speaker.

    Attributes:
        path: folder of the adapter, file of the fine-tuned weights; None for the base
    """

    kind: Kind
    path: Path | None = None

    @property
    def lora_path(self) -> Path | None:
        return self.path if self.kind == "lora" else None

    @property
    def gpt_checkpoint(self) -> Path | None:
        return self.path if self.kind == "finetune" else None

    def __str__(self) -> str:
        names = {"base": "the base model", "lora": "LoRA", "finetune": "fully fine-tuned model"}
        return names[self.kind] + (f" {self.path}" if self.path else "")


def trained(speaker: Speaker) -> dict[Kind, Tuned]:
    """What there is besides the base: of adapters the one that is to be preferred."""
    found: dict[Kind, Tuned] = {}
    folder = next((path for path in adapters(speaker) if is_adapter(path)), None)
    if folder is not None:
        found["lora"] = Tuned("lora", folder)
    by_ear, by_loss = speaker.finetune.best_audio.with_suffix(".pth"), speaker.finetune.best_model
    told = [path.with_suffix(".json") for path in (by_ear, by_loss)]
    whole = (by_ear, by_loss) if _is_alike(*told) else (by_loss, by_ear)
    file = next((path for path in whole if path.is_file()), None)
    if file is not None:
        found["finetune"] = Tuned("finetune", file)
    return found


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


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_FILE).is_file()


def choose(speaker: Speaker, wanted: ModelType = "auto") -> Tuned:
    """What speaks for a speaker; "auto": fully fine-tuned before LoRA before the base.

    Raises:
        UserError: if what is wanted was never trained
    """
    if wanted == "base":
        return Tuned("base")
    found = trained(speaker)
    if wanted == "auto":
        return found.get("finetune") or found.get("lora") or Tuned("base")
    if wanted not in found:
        place = speaker.lora.folder if wanted == "lora" else speaker.finetune.folder
        what = f"'{speaker.name}' has no {'LoRA' if wanted == 'lora' else 'fine-tuned model'}"
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
        f"{speaker.name:{width}}  {', '.join(['base', *models]):20}  "
        + ("voice stored" if speaker.speaker_embeddings.is_file() else "no stored voice")
        for speaker, models in rows
    ]
