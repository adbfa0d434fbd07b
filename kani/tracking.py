"""Sends the curves of a run to Weights & Biases, where that is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ttscommon.errors import UserError

log = logging.getLogger(__name__)


def require_tracker(report_to: str) -> None:
    """Refuse early what can't be done later.

    Raises:
        UserError: if the package isn't installed
    """
    if report_to == "wandb":
        _wandb()


@contextmanager
def tracked(
    report_to: str, project: str, name: str, config: Mapping[str, Any], *, is_main: bool = True
) -> Iterator[None]:
    """Within the block, what TensorBoard is given is sent to Weights & Biases as well.

    Without a login everything is kept locally, to be sent later by `wandb sync`.

    Raises:
        UserError: if the package isn't installed
    """
    if report_to != "wandb" or not is_main:
        yield
        return
    wandb = _wandb()
    mode = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
    if mode == "offline":
        log.info("no login at Weights & Biases: the run is kept locally, send it by `wandb sync`")
    run = wandb.init(
        project=project,
        name=name,
        config=dict(config),
        mode=mode,
        sync_tensorboard=True,
        resume="allow",
    )
    try:
        yield
    finally:
        run.finish()


def _wandb() -> Any:
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(
            "Weights & Biases isn't installed",
            fix="uv sync --inexact --extra wandb; or report_to: tensorboard",
        ) from error
    return wandb
