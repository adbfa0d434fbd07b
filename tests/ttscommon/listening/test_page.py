"""The listening page: what is in it, and how it behaves in a browser where there is one."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.ttscommon.browser import COMMAND, Browser, browsing
from tests.ttscommon.test_report import LOADING_ATTRIBUTES, Page
from ttscommon.errors import UserError
from ttscommon.evaluation.scores import Score
from ttscommon.listening.answers import read_answers
from ttscommon.listening.page import Item, ListeningPage, ScoreRow, Version

RATE = 24_000
N_ITEMS = 4


def sound(path: Path, seconds: float = 0.6, hertz: float = 200.0, gain: float = 0.3) -> Path:
    time = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, gain * np.sin(2 * np.pi * hertz * time) * np.sin(9 * time), RATE)
    return path


def items(folder: Path) -> list[Item]:
    """Texts in three versions, the second one shorter, all of them different sounds."""
    return [
        Item(
            f"t{n}",
            f"Sentence <{n}>.",
            {
                "base": Version(
                    sound(folder / f"{n}b.wav", 0.6, 200 + n), [(0.15, 0.3)], {"WER": 0.1}
                ),
                "tuned": Version(sound(folder / f"{n}t.wav", 0.3, 300 + n, 0.1)),
                "real": Version(sound(folder / f"{n}r.wav", 0.5, 400 + n)),
            },
        )
        for n in range(N_ITEMS)
    ]


def row(metric: str, low: float, high: float, better) -> ScoreRow:
    scores = {name: Score(0.5, 40, 0.4, 0.6) for name in ("base", "tuned")}
    return ScoreRow(metric, scores, {"tuned": Score((low + high) / 2, 40, low, high)}, better)


SCORES = [
    row("WER", -0.3, -0.1, "lower"),
    row("similarity", -0.3, -0.1, "higher"),
    row("DNSMOS", -0.1, 0.3, "higher"),
    row("pauses", 0.1, 0.3, None),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("listening")
    page = ListeningPage(
        "Did it help?", items(folder), "Before and after.", SCORES,
        {"Caught": [{"clip": "t1", "ratio": 1.5}]}, base="base", reference="real",
    )  # fmt: skip
    page.write(folder / "page.html")
    return folder / "page.html"


@pytest.fixture(scope="module")
def page(path) -> Page:
    return Page(path)


def test_the_page_loads_nothing_from_outside_itself(path, page):
    links = [
        value or ""
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in LOADING_ATTRIBUTES
    ]
    assert len(links) > 2 * 3 * N_ITEMS
    assert [link[:40] for link in links if not link.startswith("data:")] == []
    assert not re.search(r"@import|url\(|https?:", path.read_text(encoding="utf-8"))


def test_the_sound_is_whole_and_all_clips_are_equally_loud(page):
    levels = []
    for player in page.all("audio"):
        content = base64.b64decode((player["src"] or "").partition(",")[2])
        samples, rate = soundfile.read(io.BytesIO(content))
        assert rate == RATE
        levels.append((len(samples), np.sqrt(np.mean(samples**2))))
    assert [n for n, _ in levels[:3]] == [14_400, 7_200, 12_000]
    assert levels[0][1] == pytest.approx(levels[1][1], rel=0.15)


def test_sound_is_left_as_it_is_when_asked(tmp_path):
    version = Version(sound(tmp_path / "a.wav"))
    ListeningPage("x", [Item("a", "", {"one": version})], loudness=None).write(tmp_path / "x.html")
    (player,) = Page(tmp_path / "x.html").all("audio")
    content = base64.b64decode((player["src"] or "").partition(",")[2])
    kept, _ = soundfile.read(io.BytesIO(content), dtype="int16")
    original, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert np.abs(kept.astype(int) - original).max() <= 1


def test_versions_share_a_time_scale_and_pauses_stand_in_their_place(page):
    tracks = [d["style"] for d in page.all("div") if d.get("class") == "track"]
    assert tracks[:3] == ["width: 100.0%", "width: 50.0%", "width: 83.3%"]
    pauses = [i for i in page.all("i") if i.get("class") == "pause"]
    assert len(pauses) == N_ITEMS
    assert (pauses[0]["style"], pauses[0]["title"]) == (
        "left: 25.0%; width: 25.0%",
        "pause of 0.15 s",
    )


def test_a_verdict_needs_an_interval_without_zero():
    assert [r.verdict("tuned") for r in SCORES] == [
        "better",
        "worse",
        "no clear difference",
        "more",
    ]
    assert SCORES[0].verdict("base") == ""


def test_numbers_come_with_intervals_and_arrows(page):
    words = re.sub(r"\s+", " ", page.text)
    assert "WERlower is better 0.5000.400 to 0.600 0.5000.400 to 0.600▲ -0.200better" in words
    assert "▼ -0.200worse" in words
    assert "≈ +0.100no clear difference" in words
    assert "clip ratio t1 1.500" in words


def test_text_is_shown_as_written_and_never_read_as_html(page):
    assert "Sentence <0>." in page.text
    assert not page.all("0")


def test_a_clip_that_cannot_be_read_is_named_and_left_out_of_the_tests(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    good = Version(sound(tmp_path / "good.wav"))
    versions = {
        "one": good,
        "two": Version(tmp_path / "bad.wav"),
        "three": Version(tmp_path / "no"),
    }
    ListeningPage("x", [Item("a", "Hello.", versions)]).write(tmp_path / "x.html")
    page = Page(tmp_path / "x.html")
    assert "bad.wav: cannot decode" in page.text
    assert "no: no such audio file" in page.text
    (data,) = re.findall(r'id="data">(.*?)</script>', (tmp_path / "x.html").read_text("utf-8"))
    assert json.loads(data)["items"][0]["clips"] == {"one": "clip-0-0"}


def test_a_page_without_any_sound_is_refused(tmp_path):
    nothing = [Item("a", "", {"one": Version(tmp_path / "no.wav")})]
    with pytest.raises(UserError, match=r"nothing to listen to: no\.wav"):
        ListeningPage("x", nothing).write(tmp_path / "x.html")
    with pytest.raises(UserError, match="there are no items"):
        ListeningPage("x", []).write(tmp_path / "x.html")
    assert list(tmp_path.iterdir()) == []


def test_misuse_is_told_at_once(tmp_path):
    one = Item("a", "", {"one": Version(tmp_path / "a.wav")})
    with pytest.raises(ValueError, match="same id"):
        ListeningPage("x", [one, one])
    with pytest.raises(ValueError, match="no item has a version of two"):
        ListeningPage("x", [one], reference="two")


def test_a_page_that_would_be_too_large_holds_mp3_and_says_so(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE)
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    page = [Item("a", "", {"one": Version(tmp_path / "a.wav")})]
    ListeningPage("x", page, max_bytes=150_000).write(tmp_path / "x.html")
    html = (tmp_path / "x.html").read_text("utf-8")
    assert "data:audio/mpeg" in html
    assert "sounds are MP3" in html
    assert len(html) < 150_000


@pytest.fixture(scope="module")
def browser(path) -> Iterator[Browser]:
    if COMMAND is None:
        pytest.skip("no chromium here")
    with browsing(path.parent) as browser:
        yield browser


@pytest.fixture
def opened(browser, path) -> Browser:
    browser.open(path)
    return browser


PLAYING = "[...document.querySelectorAll('audio')].filter(p => !p.paused).map(p => p.id)"
# A clip of half a second can be over between two looks of a slow machine: each beginning is kept.
KEEP_BEGINNINGS = (
    "window.began = []; document.addEventListener('play', e => began.push(e.target.id), true)"
)


def test_keys_play_one_version_at_a_time_and_move_between_texts(opened):
    opened.value(KEEP_BEGINNINGS)
    for keys, clip in (("1", "clip-0-0"), ("2", "clip-0-1"), (("ArrowDown", "3"), "clip-1-2")):
        for key in keys:
            opened.press(key)
        opened.wait(
            f"began.at(-1) === '{clip}' && document.querySelector('#{clip}').currentTime > 0"
        )
        assert opened.value(PLAYING) in ([clip], [])  # it may have ended
    opened.press(" ")
    opened.wait(f"{PLAYING}.length === 0")
    assert opened.value("began") in (
        ["clip-0-0", "clip-0-1", "clip-1-2"],
        ["clip-0-0", "clip-0-1", "clip-1-2", "clip-1-2"],  # space came after its end
    )
    assert opened.value("document.querySelector('.item.current').id") == "item-1"


CLICK_IN_THE_MIDDLE = """(() => {
  const track = document.querySelector("#item-0 .track"), box = track.getBoundingClientRect();
  const place = { clientX: box.left + box.width / 2, bubbles: true };
  track.dispatchEvent(new MouseEvent("click", place));
})()"""


def test_of_keys_struck_at_once_the_last_one_plays(opened):
    opened.value("'123'.split('').forEach(key => listenKey(key))")
    opened.wait("document.querySelector('#clip-0-2').currentTime > 0.1")
    assert opened.value(PLAYING) in (["clip-0-2"], [])  # it may have ended


def test_a_click_on_a_picture_plays_from_there(opened):
    opened.value(CLICK_IN_THE_MIDDLE)
    opened.wait("document.querySelector('#clip-0-0').currentTime >= 0.3")


def test_views_switch(opened):
    opened.click("[data-view=numbers]")
    shown = "[...document.querySelectorAll('main > section')].filter(s => !s.hidden).map(s => s.id)"
    assert opened.value(shown) == ["numbers"]
    opened.click("[data-view=abx]")
    assert opened.value(shown) == ["test"]
    opened.click("[data-view=listen]")
    assert opened.value(shown) == ["listen"]


@pytest.mark.skipif(COMMAND is None, reason="no chromium here")
def test_a_page_can_open_with_its_test(tmp_path):
    path = tmp_path / "blind.html"
    ListeningPage("Which?", items(tmp_path), base="base", reference="real", view="like").write(path)
    shown = "[...document.querySelectorAll('main > section')].filter(s => !s.hidden).map(s => s.id)"
    with browsing(tmp_path) as browser:
        browser.open(path)
        assert browser.value(shown) == ["test"]
        assert browser.value("document.querySelector('[aria-current]').dataset.view") == "like"


def test_nothing_is_wider_than_a_phone(opened, tmp_path):
    opened.photograph(tmp_path / "phone.png", width=390, height=844)
    for view in ("listen", "numbers", "like"):
        opened.click(f"[data-view={view}]")
        assert opened.value("document.documentElement.scrollWidth") == 390


def test_a_choice_waits_until_everything_was_heard(opened):
    opened.click("[data-view=ab]")
    opened.click("[data-do=start]")
    place = "document.querySelector('.place').textContent"
    opened.press("a")
    opened.press("1")
    assert opened.value(place).startswith("1 of")
    opened.press("b")
    opened.press("1")
    assert opened.value(place).startswith("2 of")
    opened.press("Backspace")
    assert opened.value(place).startswith("1 of")


def answer_all(browser: Browser, mode: str, choose: str) -> None:
    """Hear everything in each trial and choose by a JavaScript expression over `run`."""
    browser.click(f"[data-view={mode}]")
    browser.value("document.querySelector('[name=listener]').value = 'Zoë'")
    browser.click("[data-do=start]")
    while browser.value("run.index < run.trials.length"):
        for letter in browser.value("Object.keys(slots)"):
            browser.press(letter.lower())
        browser.press(browser.value(f"((trial) => {choose})(run.trials[run.index])"))


@pytest.mark.parametrize(
    ("mode", "choose", "chosen"),
    [
        ("ab", "trial.a === 'tuned' ? '1' : '2'", {"tuned"}),
        ("abx", "trial.a === trial.x ? '1' : '2'", {"base", "tuned"}),
        ("like", "'0'", {None}),
    ],
)
def test_answers_are_saved_as_a_file_that_can_be_scored(opened, tmp_path, mode, choose, chosen):
    folder = str(tmp_path)
    opened.call("Page.setDownloadBehavior", behavior="allow", downloadPath=folder)
    answer_all(opened, mode, choose)
    opened.click("[data-do=save]")
    opened.wait("true")
    shown = json.loads(opened.value("document.querySelector('textarea').value"))
    while not (saved := [path for path in tmp_path.glob("*.json") if path.stat().st_size]):
        opened.wait("true")
    assert saved[0].name.startswith(f"answers_{mode}_Zoë_")
    answers = read_answers(saved[0])
    assert len(answers) == len(shown["answers"]) == N_ITEMS
    assert {answer.chosen for answer in answers} == chosen
    assert {answer.pair for answer in answers} == {("base", "tuned")}
    assert sorted(answer.a for answer in answers) == ["base"] * 2 + ["tuned"] * 2  # balanced
    if mode == "abx":
        assert all(answer.chosen == answer.x for answer in answers)


def test_a_page_that_was_closed_goes_on_where_it_was(opened, path):
    opened.click("[data-view=ab]")
    opened.click("[data-do=start]")
    for key in "ab1":
        opened.press(key)
    opened.open(path)
    opened.click("[data-view=ab]")
    opened.click("[data-do=continue]")
    assert opened.value("document.querySelector('.place').textContent") == f"2 of {N_ITEMS}"


def test_no_request_left_the_page_and_nothing_complained(opened, path):
    assert set(opened.requests) == {path.as_uri()}
    assert opened.complaints == []
