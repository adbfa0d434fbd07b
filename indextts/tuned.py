"""What was trained for a speaker, and which of it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ttscommon.errors import UserError
from ttscommon.workspace import TRAINING_ROOT, Speaker, find_speakers

Kind = Literal["base", "lora", "finetune"]
ModelType = Literal["auto", "base", "lora", "finetune"]
MODEL_TYPES = get_args(ModelType)
ADAPTER_FILE = "adapter_config.json"
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
    if speaker.finetune.best_model.is_file():
        found["finetune"] = Tuned("finetune", speaker.finetune.best_model)
    return found


def adapters(speaker: Speaker) -> tuple[Path, ...]:
    """Where adapters of a speaker are, the best first: by its sound, by its loss, the last one."""
    return speaker.lora.best_audio, speaker.lora.best_checkpoint, speaker.lora.final_checkpoint


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
