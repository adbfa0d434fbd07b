"""How pages are made: one look, nothing loaded from outside the file."""

from __future__ import annotations

import base64
import functools
import io
import re
from importlib import resources
from typing import Any

import jinja2
import matplotlib.image
import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

LOG_MEL_FLOOR, LOG_MEL_TOP = -9.0, 4.0  # the range of a picture, in nats


def render(template: str, **content: Any) -> str:
    """A page from one of the templates in this folder; every name in it must be given."""
    return _environment().get_template(template).render(**content)


def data_uri(mime_type: str, content: bytes) -> str:
    """A file as an address that needs no file."""
    return f"data:{mime_type};base64,{base64.b64encode(content).decode('ascii')}"


def mel_strip(log_mel: NDArray, *, quality: int | None = None) -> str:
    """A log-mel (M, T) as a picture without axes, one pixel per value.

    Args:
        quality: of a WebP picture, 1 to 100; without it a PNG, which at ten times the size of
            quality 80 loses nothing
    """
    buffer = io.BytesIO()
    kind = "png" if quality is None else "webp"
    matplotlib.image.imsave(
        buffer,
        np.asarray(log_mel, np.float32),
        cmap="magma",
        origin="lower",
        vmin=LOG_MEL_FLOOR,
        vmax=LOG_MEL_TOP,
        format=kind,
        pil_kwargs={} if quality is None else {"quality": quality},
    )
    return data_uri(f"image/{kind}", buffer.getvalue())


def paragraphs(text: str) -> list[Markup]:
    """Paragraphs of `text`, escaped, with `backticks` as code."""
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [
        Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(part))))
        for part in parts
        if part
    ]


def is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A cell of a table: numbers with three digits that tell, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"
    return str(value)


@functools.cache
def _environment() -> jinja2.Environment:
    """One for all pages: a template is compiled once, which takes longer than to fill it."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _source(name: str) -> str:
    return resources.files("ttscommon").joinpath(name).read_text("utf-8")
