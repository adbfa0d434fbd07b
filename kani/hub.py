"""Where a base model is: a local folder, or what the hub's own client fetched; and what is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kani.evaluation_config import HubUpload
from ttscommon.errors import UserError

# Of a model's folder, what is read: weights as safetensors, and the tokenizer.
FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer*"]

Push = Callable[..., Any]


def looks_local(name: str) -> bool:
    """Whether it is a path; a name on the hub is `owner/name`."""
    return Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") != 1


def model_folder(name: str) -> Path:
    """The folder of a model that is named by a path or as on the hub.

    Raises:
        UserError: if it isn't there
    """
    path = Path(name).expanduser()
    if looks_local(name):
        if not (path / "config.json").is_file():
            raise UserError(
                "no model here: config.json is missing",
                where=path,
                fix="base_model is a folder with a model, or its name on the hub",
            )
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except (OSError, HFValidationError) as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"unknown base model: no such folder, and not from the hub: {words}",
            where=name,
            fix="make login, if it is private; or fetch it and name its folder as base_model",
        ) from error


def require_upload(hub: HubUpload) -> None:
    """Refuse, before any work, what couldn't be sent to the hub in the end.

    Raises:
        UserError: without a name of the data set there, or without a token
    """
    if not hub.upload_dataset:
        return
    owner, _, name = hub.repo_name.partition("/")
    if not owner or not name or "/" in name or owner == "your-username":
        raise UserError(
            f"upload_dataset needs a repo_name like owner/name, got '{hub.repo_name}'",
            where="eval_config.yaml",
        )
    import huggingface_hub

    if not huggingface_hub.get_token():
        raise UserError(
            "upload_dataset is true and there is no token for the hub",
            where="eval_config.yaml",
            fix="make login, or upload_dataset: false",
        )


def upload(folder: Path, hub: HubUpload, push: Push | None = None) -> None:
    """Send a saved data set to the hub.

    Args:
        push: sends it; `Dataset.push_to_hub`

    Raises:
        UserError: if the hub doesn't take it
    """
    from datasets import Dataset

    send: Push = push or Dataset.push_to_hub
    try:
        send(Dataset.load_from_disk(str(folder)), hub.repo_name, private=hub.private)
    except (OSError, ValueError) as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the hub didn't take the data set: {words}", where=folder, fix="the same command again"
        ) from error
