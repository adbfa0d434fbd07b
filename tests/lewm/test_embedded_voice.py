"""Nobody is named: the voice that comes with the repository speaks, whatever the text's letters."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from lewm import weights
from lewm.generation import GenerationSettings, Request, generate
from lewm.letters import readable, unreadable
from tests.lewm.random_voice import INFO, random_voice
from tools import lewm_infer
from ttscommon import audio
from ttscommon.errors import UserError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz ,.'-?!"


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A voice of three speakers in the place of the embedded one, and no espeak-ng."""
    folder = tmp_path / "voice"
    model = random_voice(text_form="mixed", speakers=("anna", "heart", "tom"), languages=("en-us",))
    training = {"letters": LETTERS, "language_of": dict.fromkeys(model.config.speakers, "en-us")}
    weights.save(folder, model, replace(INFO, training=training))
    monkeypatch.setattr(lewm_infer, "EMBEDDED_VOICE", folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return folder


def said(text: str, *more: str) -> Path:
    path = Path(f"{len(list(Path().glob('*.wav')))}.wav")
    words = ["--text", text, "--output", str(path), "--vocoder", "griffinlim", "--device", "cpu"]
    lewm_infer.main([*words, *more])
    return path


def test_the_embedded_voice_speaks_where_nobody_is_named(embedded: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        path = said("Hello there.")
    assert audio.duration(path) > 0.3
    assert "goes by the letters" in caplog.text  # there is no espeak-ng
    heart = said("Hello there.", "--checkpoint", str(embedded), "--voice", "heart")
    anna = said("Hello there.", "--voice", "anna")
    assert path.read_bytes() == heart.read_bytes() != anna.read_bytes()


def test_a_missing_embedded_voice_is_told_in_one_line(embedded: Path, monkeypatch) -> None:
    monkeypatch.setattr(lewm_infer, "EMBEDDED_VOICE", embedded / "gone")
    with pytest.raises(UserError, match=r"nobody is named to speak.*gone.*--speaker NAME"):
        said("Hello.")


def test_strange_letters_are_told_and_left_out(embedded: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        path = said("Привет, naïve café — “42” 😀!")
    assert audio.duration(path) > 0.3
    assert "left out, as this voice never read them: П р и в е т 😀" in caplog.text
    with pytest.raises(UserError, match=r"can't read '日本語'.*espeak-ng"):
        said("日本語")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Naïve café, garçon’s “déjà-vu” — straße", "Naive cafe, garcon's deja-vu - strasse"),
        ("It costs $5 at 7:30.", "It costs five dollars at seven thirty."),
        ("ﬁne, Ångström²", "fine, Angstrom"),
    ],
)
def test_a_text_is_put_into_letters_that_are_known(text: str, expected: str) -> None:
    assert readable(text, LETTERS, "en-us") == expected


def test_known_letters_stay_as_they_are() -> None:
    assert readable("“é” 5", LETTERS + "“”é5", "en") == "“é” 5"
    assert unreadable("a я 7 €", LETTERS) == ["я", "7", "€"]


def test_a_tuned_voice_speaks_by_itself_in_its_own_voice() -> None:
    model = random_voice(speakers=("anna", "tom"))
    settings = GenerationSettings(max_frames=4)
    info = replace(INFO, training={"voice": "tom"})
    by_itself, tom, anna = (
        generate(model, info, [Request(text="abc", speaker=name)], settings)[0].latents
        for name in (None, "tom", "anna")
    )
    assert by_itself.equal(tom)
    assert not by_itself.equal(anna)
