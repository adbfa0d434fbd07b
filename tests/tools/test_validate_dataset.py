"""The tool as it is typed: what it finds in a data set, where it says so, and its exit code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.faster_whisper import write_model
from tests.ttscommon.browser import COMMAND, browsing
from tests.ttscommon.listener import RATE, put, sentence_audio
from tools import prepare_lora_dataset, transcribe_dataset
from tools.validate_dataset import main
from ttscommon.errors import UserError
from ttscommon.files import read_json
from ttscommon.workspace import Speaker

FAKES = Path(__file__).resolve().parents[1] / "fakes"
# Of the bundled recordings 1, 3, 4 and 5.
TEXTS = {
    "a.wav": "Please enter a new extension, followed by pound.",
    "b.wav": "Please enter the channel number followed by the pound key.",
    "c.wav": "That is not a valid conference number. Please try again.",
    "d.wav": "No empty conferences currently exist.",
}


@pytest.fixture(scope="module")
def sentences() -> dict[str, np.ndarray]:
    rest = np.zeros(RATE // 5)
    found = [np.concatenate([rest, sentence_audio(number), rest]) for number in (1, 3, 4, 5)]
    return dict(zip(TEXTS, found, strict=True))


@pytest.fixture
def ozzy(tmp_path, sentences) -> Speaker:
    """Four clips without a fault."""
    speaker = Speaker("ozzy", tmp_path / "training")
    for name, audio in sentences.items():
        put(speaker.audio, name, audio)
    write_texts(speaker, TEXTS)
    return speaker


def write_texts(speaker: Speaker, texts: dict[str, str]) -> None:
    lines = "".join(f'{name},"{text}"\n' for name, text in texts.items())
    speaker.transcripts.write_text("audio_path,text\n" + lines, encoding="utf-8")


def flags(speaker: Speaker, *more: str) -> list[str]:
    return ["--speaker", speaker.name, "--training-root", str(speaker.root), *more]


def faults(speaker: Speaker) -> dict[str, list[str]]:
    """{clip: names of its faults}"""
    kept = read_json(speaker.validation, format="ttscommon.validation")
    return {c["clip"]: [f["name"] for f in c["faults"]] for c in kept["clips"] if c["faults"]}


def test_a_good_set_passes_and_the_next_command_takes_it(ozzy, capsys):
    assert main(flags(ozzy, "--strict")) == 0
    said = capsys.readouterr().out
    assert re.search(r"^4 clips, 0\.\d+ minutes, 0 with faults", said)
    assert faults(ozzy) == {}
    following = re.findall("^Next: ([^#]*)", said, re.MULTILINE)[-1]
    args = prepare_lora_dataset.build_parser().parse(shlex.split(following)[2:])
    assert (args.speaker, args.training_root) == ("ozzy", ozzy.root)


def test_an_excluded_clip_is_no_fault(ozzy, sentences, capsys):
    put(ozzy.audio, "a.wav", np.clip(20 * sentences["a.wav"], -1, 1))
    assert main(flags(ozzy, "--strict")) == 2
    ozzy.excluded.write_text("a.wav  # too loud\n", encoding="utf-8")
    assert main(flags(ozzy, "--strict")) == 0
    assert "Note: 1 clips are named in excluded.txt" in capsys.readouterr().out
    assert "a.wav" not in {clip["clip"] for clip in read_json(ozzy.validation)["clips"]}
    ozzy.excluded.write_text("\n".join(sentences), encoding="utf-8")
    with pytest.raises(UserError, match=r"no clips to validate \(4 are named in excluded\.txt"):
        main(flags(ozzy))


def test_faults_are_in_all_three_places_and_strict_makes_them_an_exit_code(ozzy, sentences, capsys):
    put(ozzy.audio, "a.wav", np.clip(20 * sentences["a.wav"], -1, 1))
    put(ozzy.audio, "e.wav", sentences["b.wav"])
    write_texts(ozzy, {name: text for name, text in TEXTS.items() if name != "c.wav"})
    assert main(flags(ozzy)) == 0
    assert main(flags(ozzy, "--strict")) == 2
    found = faults(ozzy)
    assert "clipped" in found["a.wav"]
    assert found["c.wav"] == ["no text"]
    assert set(found["e.wav"]) == {"no text", "copy"}
    said, page = capsys.readouterr().out, ozzy.validation_page.read_text(encoding="utf-8")
    assert "c.wav: no text: nothing says what is spoken" in said
    assert "the same sound as b.wav" in page
    assert page.count("<audio") == 3


def test_a_text_without_a_clip_is_a_fault_of_the_set(ozzy):
    write_texts(ozzy, {**TEXTS, "gone.wav": "Nobody says this."})
    assert main(flags(ozzy, "--strict")) == 2
    kept = read_json(ozzy.validation)
    assert kept["texts_without_a_clip"] == ["gone.wav"]
    assert "gone.wav" in ozzy.validation_page.read_text(encoding="utf-8")


def test_a_recogniser_and_a_tokenizer_are_asked_on_request(ozzy, tmp_path, monkeypatch):
    from indextts.miniature_tokenizer import train_tokenizer

    monkeypatch.syspath_prepend(str(FAKES))
    heard = write_model(tmp_path / "whisper", "nothing of all this was ever said by anybody")
    (tmp_path / "bpe.model").write_bytes(train_tokenizer()[0])
    write_texts(ozzy, {**TEXTS, "d.wav": "No empty 𝄞 conferences currently exist."})
    more = ["--whisper-model", str(heard), "--language", "en", "--device", "cpu"]
    main(flags(ozzy, *more, "--tokenizer", str(tmp_path / "bpe.model")))
    found = faults(ozzy)
    assert all("disagreement" in names for names in found.values())
    assert set(found) == set(TEXTS)
    assert [name for name, names in found.items() if "unknown tokens" in names] == ["d.wav"]
    assert all(clip["word_error_rate"] > 0.5 for clip in read_json(ozzy.validation)["clips"])


def test_a_model_isn_t_asked_about_what_it_heard_itself(ozzy, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FAKES))
    heard = write_model(tmp_path / "whisper", "this is what it hears in every single one of them")
    write_texts(ozzy, {"a.wav": TEXTS["a.wav"]})
    asked = ["--whisper-model", str(heard), "--language", "en", "--device", "cpu"]
    transcribe_dataset.main(flags(ozzy, *asked))
    main(flags(ozzy, *asked))
    assert "Note: 3 texts are what this very model heard" in capsys.readouterr().out
    kept = read_json(ozzy.validation)
    rates = {clip["clip"]: clip["word_error_rate"] for clip in kept["clips"]}
    assert rates.pop("a.wav") > 0.5
    assert set(rates.values()) == {None}
    assert "very model" in kept["notes"][0]


def test_ordinary_punctuation_is_no_fault(ozzy, tmp_path):
    from indextts.miniature_tokenizer import train_tokenizer

    (tmp_path / "bpe.model").write_bytes(train_tokenizer()[0])
    write_texts(ozzy, {name: f"“{text}” — it’s: wait; (really)…" for name, text in TEXTS.items()})
    main(flags(ozzy, "--tokenizer", str(tmp_path / "bpe.model")))
    assert faults(ozzy) == {}


def test_folders_and_a_table_may_be_given(ozzy, tmp_path):
    output = tmp_path / "found"
    words = ["--audio-dir", str(ozzy.audio), "--transcripts", str(ozzy.transcripts)]
    assert main([*words, "--output-dir", str(output), "--strict"]) == 0
    assert {path.name for path in output.iterdir()} == {"validation.html", "validation.json"}
    assert not ozzy.validation.exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("who,said\nozzy,hello\n", "missing column: one of audio_path.*found who, said"),
        ("audio_path,text\n", "no transcripts in the file"),
    ],
)
def test_a_broken_table_is_one_line_and_nothing_is_written(ozzy, table, message):
    ozzy.transcripts.write_text(table, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        main(flags(ozzy))
    assert not ozzy.validation.exists()


def test_a_speaker_without_recordings_is_told(tmp_path):
    speaker = Speaker("nobody", tmp_path)
    speaker.audio.mkdir(parents=True)
    with pytest.raises(UserError, match="no clips to validate"):
        main(flags(speaker))


def test_without_a_place_it_is_wrong_usage():
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2


@pytest.mark.slow
@pytest.mark.skipif(COMMAND is None, reason="no chromium")
def test_the_page_plays_offline_and_fits_a_phone(ozzy, sentences, tmp_path):
    put(ozzy.audio, "a.wav", np.clip(20 * sentences["a.wav"], -1, 1))
    main(flags(ozzy))
    with browsing(tmp_path) as browser:
        browser.open(ozzy.validation_page)
        browser.wait("document.querySelector('audio').duration > 1")
        for width in (1200, 390):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            browser.call("Emulation.setDeviceMetricsOverride", **size)
            assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.requests == [ozzy.validation_page.as_uri()]
        assert browser.complaints == []
