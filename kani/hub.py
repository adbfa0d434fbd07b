"""Where a base model is: a local folder, or what the hub's own client fetched."""

from __future__ import annotations

from pathlib import Path

from ttscommon.errors import UserError

# Of a model's folder, what is read: weights as safetensors, and the tokenizer.
FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer*"]


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
