"""One static HTML page of players, spectrograms, figures and tables that opens without a network.

Everything is embedded: audio and pictures as data URIs, style and script inline.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from ttscommon.errors import UserError
from ttscommon.files import atomic
from ttscommon.pages import (
    data_uri,
    is_number,
    mel_strip,
    paragraphs,
    render,
    shown,
)

MIME_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
LINE_COLORS = ("#2f8f83", "#c4841d", "#7a6fc0", "#c2566b", "#5b8fc9")  # legible on light and dark
_INK_LIGHT, _INK_DARK = "#3a3f45", "#b9bec6"
_PICTURE_DPI = 160


@dataclass
class _Section:
    title: str
    paragraphs: list[Markup]
    blocks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


class Report:
    """Collects sections of blocks in the order of the calls; `write` makes the page.

    Args:
        title: heading of the page
        lead: a sentence or two under it; blank lines separate paragraphs, `backticks` mark code
    """

    def __init__(self, title: str, lead: str = ""):
        self._title = title
        self._sections = [_Section("", paragraphs(lead))]

    def section(self, title: str, text: str = "") -> None:
        """Start a section; what is added from now on stands in it."""
        self._sections.append(_Section(title, paragraphs(text)))

    def heading(self, title: str, text: str = "") -> None:
        """A smaller heading inside the section, with a quiet line under it."""
        self._add("heading", title=title, text=text)

    def table(self, rows: Sequence[Mapping[str, object]], caption: str = "") -> None:
        """One line per row; columns in the order in which their names first appear."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        numeric = {name for name in columns if any(is_number(row.get(name)) for row in rows)}
        cells = [[shown(row.get(name)) for name in columns] for row in rows]
        classes = ["number" if name in numeric else "" for name in columns]
        self._add("table", columns=columns, cells=cells, classes=classes, caption=caption)

    def audio(self, label: str, wav: Path, mel: NDArray | None = None, text: str = "") -> None:
        """A player; neighbours share one group and one time scale.

        Args:
            label: what is heard
            wav: a sound file; it is copied into the page
            mel: (M, T) log-mel shown under the player
            text: the words that are spoken
        """
        kind = MIME_TYPES.get(wav.suffix.lower())
        if kind is None:
            raise ValueError(f"cannot embed {wav.suffix} files")
        try:
            source = data_uri(kind, wav.read_bytes())
        except FileNotFoundError as error:
            raise UserError("no such sound file", where=wav) from error
        clip: dict[str, Any] = {"label": label, "source": source, "text": text, "mel": None}
        if mel is not None:
            clip |= {"mel": mel_strip(mel), "n_frames": mel.shape[1]}
        blocks = self._sections[-1].blocks
        if not blocks or blocks[-1]["kind"] != "audio":
            self._add("audio", clips=[], longest=1)
        blocks[-1]["clips"].append(clip)
        blocks[-1]["longest"] = max(blocks[-1]["longest"], clip.get("n_frames", 0))

    def figure(self, figure: Figure, caption: str = "") -> None:
        """A matplotlib figure, drawn once for light and once for dark pages.

        The figure's labels keep the ink of the light page.
        """
        dark = _png(figure, _INK_DARK)
        figure.set_layout_engine("none")  # everything is in its place by now
        light = _png(figure, _INK_LIGHT)
        width = round(figure.get_figwidth() * 100)
        self._add("figure", light=light, dark=dark, caption=caption, width=width)

    def code(self, text: str) -> None:
        """Commands or output, as they are."""
        self._add("code", text=text.strip("\n"))

    def write(self, path: Path) -> None:
        """Write the page; a page that stood at `path` is replaced as a whole."""
        page = render("report.html.j2", title=self._title, sections=self._sections)
        with atomic(path) as draft:
            draft.write_text(page, encoding="utf-8")

    def _add(self, kind: str, **content: Any) -> None:
        self._sections[-1].blocks.append({"kind": kind, **content})


def alignment_figure(attention: NDArray, title: str = "", text: str = "") -> Figure:
    """Where in the text each frame looked: frames across, text bytes up.

    Args:
        attention: (T, L) rows summing to 1; L counts BOS and EOS
        text: what was read, for words along the side; without it the bytes are numbered
    """
    figure, axes = _axes(title, height=4.2)
    ink = LinearSegmentedColormap.from_list("ink", [f"{LINE_COLORS[0]}00", LINE_COLORS[0]])
    full = float(np.quantile(attention.max(1), 0.5))  # a typical peak; the sharpest would pale it
    axes.imshow(attention.T, origin="lower", aspect="auto", cmap=ink, vmin=0, vmax=full)
    axes.set(xlabel="latent frame", ylabel="" if text else "text byte")
    if text:
        starts = [match.start() for match in re.finditer(r"\S+", text)]
        places = [1 + len(text[:start].encode()) for start in starts]  # 1: after BOS
        axes.set_yticks(places, text.split(), fontsize=8)
    return figure


def curve_figure(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    title: str = "",
    *,
    y_label: str = "loss",
    is_log: bool = False,
) -> Figure:
    """Named curves of (step, value) points on common axes."""
    figure, axes = _axes(title, height=2.8)
    for number, (name, points) in enumerate(curves.items()):
        steps, values = zip(*points, strict=True) if points else ((), ())
        color = LINE_COLORS[number % len(LINE_COLORS)]
        axes.plot(steps, values, label=name, color=color, linewidth=1.6)
    axes.set(xlabel="step", ylabel=y_label)
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#8a8f98", alpha=0.25, linewidth=0.6)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=9)
    return figure


def _axes(title: str, *, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes


def _png(figure: Figure, ink: str) -> str:
    """`figure` with all its lettering in `ink` on no background, as a data URI."""
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.tick_params(which="both", color=ink, labelcolor=ink)
        for place in ("left", "center", "right"):
            axes.set_title(axes.get_title(place), loc=place, color=ink)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color(ink)
        axes.spines[:].set_color(ink)
        legend = axes.get_legend()
        for entry in legend.get_texts() if legend else ():
            entry.set_color(ink)
    for heading in figure.texts:
        heading.set_color(ink)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_PICTURE_DPI, transparent=True)
    return data_uri("image/png", buffer.getvalue())
