"""What two of the YAML files say: where models and their speech are, and what all of them speak."""

from __future__ import annotations

from dataclasses import dataclass

from ttscommon.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EvalPaths:
    audio_output_dir: str = "./audio_samples"
    checkpoints_dir: str = "./checkpoints"


@dataclass(frozen=True, kw_only=True)
class HubUpload:
    upload_dataset: bool = False
    repo_name: str = ""
    private: bool = True


@dataclass(frozen=True, kw_only=True)
class Processing:
    num_proc: int = 4

    def __post_init__(self) -> None:
        if self.num_proc < 1:
            raise UserError(f"num_proc must be 1 or more, got {self.num_proc}")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Where models and their speech are, what is sent to the hub, and clips measured at a time."""

    paths: EvalPaths = EvalPaths()
    huggingface: HubUpload = HubUpload()
    processing: Processing = Processing()


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """The sentences that every model speaks: one {name: sentence} each.

    Attributes:
        seeds: each sentence is spoken once for each
    """

    eval_set: tuple[dict[str, str], ...]
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        names = [name for entry in self.eval_set for name in entry]
        if any(len(entry) != 1 for entry in self.eval_set) or not names:
            raise UserError("eval_set is a list of `- name: sentence`, one each")
        lower = [name.lower() for name in names]  # files are named after them
        if twice := sorted({name for name in lower if lower.count(name) > 1}):
            raise UserError(f"two sentences are called '{twice[0]}'")
        for name in names:
            if not name or name[0] in ".-" or set(name) & set('/\\:*?"<>|\0'):
                raise UserError(f"'{name}' can't name a sentence: it names a file", fix="prompt_1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise UserError("seeds are different whole numbers of 0 or more", fix="seeds: [0, 1]")

    @property
    def sentences(self) -> dict[str, str]:
        """{name: sentence}, in order."""
        return {name: sentence for entry in self.eval_set for name, sentence in entry.items()}
