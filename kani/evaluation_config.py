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


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Where models and their speech are, and what is sent to the hub."""

    paths: EvalPaths = EvalPaths()
    huggingface: HubUpload = HubUpload()
    processing: Processing = Processing()


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """The sentences that every model speaks: one {name: sentence} each."""

    eval_set: tuple[dict[str, str], ...]

    def __post_init__(self) -> None:
        names = [name for entry in self.eval_set for name in entry]
        if any(len(entry) != 1 for entry in self.eval_set) or not names:
            raise UserError("eval_set is a list of `- name: sentence`, one each")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"two sentences are called '{twice[0]}'")

    @property
    def sentences(self) -> dict[str, str]:
        """{name: sentence}, in order."""
        return {name: sentence for entry in self.eval_set for name, sentence in entry.items()}
