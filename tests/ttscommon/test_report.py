from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ttscommon.errors import UserError
from ttscommon.report import Report, alignment_figure, curve_figure

LOADING_ATTRIBUTES = {"src", "srcset", "href", "poster", "data", "action"}


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


SOUND = b"RIFF not really sound, the page doesn't care"


def mel(n_frames: int = 30) -> np.ndarray:
    return np.linspace(-9, 3, 100 * n_frames, dtype=np.float32).reshape(100, n_frames)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A page with every kind of block."""
    sound = tmp_path_factory.mktemp("report") / "clip.wav"
    sound.write_bytes(SOUND)
    report = Report("A voice", "Trained with `tiny` on <little>.")
    report.section("Listen")
    report.audio("recording", sound, mel(30), text="Please hold.")
    report.audio("copy", sound, mel(15))
    report.section("Measured")
    report.table([{"what": "copy", "distance": 0.4211}, {"what": "text", "ratio": 1}], "8 clips")
    report.section("Figures")
    report.figure(alignment_figure(np.eye(6), text="ab cd"), "an alignment")
    report.figure(curve_figure({"train": [(0, 2.0), (1, 1.0)], "val": []}, is_log=True), "a loss")
    report.section("Next")
    report.code("python x.py --text 'a < b'")
    report.write(sound.with_name("report.html"))
    return sound.with_name("report.html")


@pytest.fixture(scope="module")
def page(path) -> Page:
    return Page(path)


def test_a_page_loads_nothing_from_outside_itself(path, page):
    links = [
        value or ""
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in LOADING_ATTRIBUTES
    ]
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|https?:", source)


def test_the_sound_in_a_player_is_the_file_byte_for_byte(page):
    players = page.all("audio")
    assert [player["aria-label"] for player in players] == ["recording", "copy"]
    head, content = (players[0]["src"] or "").split(",", 1)
    assert head == "data:audio/wav;base64"
    assert base64.b64decode(content) == SOUND


def test_neighbouring_clips_share_one_time_scale(page):
    strips = [d["style"] for d in page.all("div") if "style" in d]
    assert strips == ["width: 100.0%", "width: 50.0%"]


def test_every_picture_is_a_png_with_words_for_those_who_cannot_see_it(page):
    pictures = page.all("img")
    assert len(pictures) == 4
    for picture in pictures:
        content = base64.b64decode((picture["src"] or "").split(",", 1)[1])
        assert content.startswith(b"\x89PNG")
        assert picture["alt"]


def test_figures_are_drawn_differently_for_dark_pages(page):
    dark = [source["srcset"] for source in page.all("source")]
    assert len(dark) == 2
    assert set(dark).isdisjoint(picture["src"] for picture in page.all("img"))


def test_text_is_shown_as_written_and_never_read_as_html(tmp_path):
    report = Report("<b>bold</b>", "a <script>alert(1)</script> `<i>`")
    report.table([{"<u>": "<s>"}])
    report.code("<em>")
    report.write(tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert {tag for tag, _ in page.tags}.isdisjoint({"b", "i", "u", "s", "em"})
    assert len(page.all("script")) == 1  # the page's own
    for written in ("<b>bold</b>", "<script>alert(1)</script>", "<i>", "<u>", "<s>", "<em>"):
        assert written in page.text


def test_a_table_has_every_column_and_a_dash_where_nothing_was_measured(page):
    words = re.split(r"\s*\n\s*", page.text)
    start = words.index("what")
    assert words[start : start + 9] == (
        ["what", "distance", "ratio", "copy", "0.421", "–", "text", "–", "1"]
    )


def test_a_long_page_links_to_its_sections(page):
    anchors = {section["id"] for section in page.all("section")}
    assert {link["href"] for link in page.all("a")} == {f"#{anchor}" for anchor in anchors}
    assert len(anchors) == 4


def test_a_missing_sound_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such sound file.*gone\.wav"):
        Report("x").audio("gone", tmp_path / "gone.wav")


def test_words_stand_at_their_bytes_beside_an_alignment():
    figure = alignment_figure(np.eye(12), text="नी ab")
    axis = figure.axes[0].yaxis
    assert [label.get_text() for label in axis.get_ticklabels()] == ["नी", "ab"]
    assert list(axis.get_ticklocs()) == [1, 8]  # BOS, then two letters of three bytes and a space
