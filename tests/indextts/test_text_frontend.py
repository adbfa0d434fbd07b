"""Normaliser, tokenizer and segments against the original program."""

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import wetext
from hypothesis import given
from hypothesis import strategies as st

from indextts.frontend import normalizer
from indextts.frontend.normalizer import Normalizer, is_read_as_chinese
from indextts.frontend.segments import split_segments
from indextts.frontend.text import Pause, Segment, plan, split_pauses
from indextts.frontend.tokenizer import TextTokenizer, spaced
from tests.indextts.gpt_golden import FOLDER
from ttscommon.errors import UserError

GOLD = json.loads((FOLDER / "text_frontend.json").read_text(encoding="utf-8"))
CASES = GOLD["cases"]
BPE = FOLDER / "bpe_small.model"
PINYIN = re.compile("<pinyin_.>")


class Recorded:
    """The original's engine: answers what it answered when the file was made.

    Pinyin placeholders are lettered in any order by the original, in order of appearance by us.
    """

    def __init__(self, calls):
        self.answers = {PINYIN.sub("<P>", c["engine_in"]): c["engine_out"] for c in calls}

    def normalize(self, text: str) -> str:
        mine = iter(PINYIN.findall(text))
        return PINYIN.sub(lambda _: next(mine), self.answers[PINYIN.sub("<P>", text)])


def recorded(case) -> Normalizer:
    engines = {
        language: Recorded([c for c in case["engine_calls"] if c["lang"] == language])
        for language in ("zh", "en")
    }
    return Normalizer(engines)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(BPE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:24])
def test_text_around_the_engine_is_treated_as_in_the_original(case):
    assert is_read_as_chinese(case["text"]) == case["use_chinese"]
    assert recorded(case).normalize(case["text"]) == case["normalized"]


def test_wetext_gives_what_it_gives_the_original():
    normalizer = Normalizer()
    wrong = {
        case["text"]: said
        for case in CASES
        if (said := normalizer.normalize(case["text"])) != case["normalized_wetext"]
    }
    # There the original leaves wetext's backslashes before quotation marks in.
    assert wrong == {'She said: "wait..." and left.': "She said, 'wait…' and left."}


def test_pieces_ids_and_segments_are_the_originals():
    for case in CASES:
        tokenizer = TextTokenizer(BPE, recorded(case))
        pieces = tokenizer.pieces(case["text"])
        assert pieces == case["pieces"], case["text"]
        assert tokenizer.encode(case["text"]) == case["ids"], case["text"]
        for setting, expected in case["segments"].items():
            assert split_segments(pieces, *map(int, setting.split("/"))) == expected, case["text"]


def test_segments_of_awkward_tokens_are_the_originals():
    for case in GOLD["segment_unit_cases"]:
        assert split_segments(case["tokens"], case["max"], case["quick"]) == case["out"], case


@given(
    st.lists(st.sampled_from([*"ABCDEF", ".", ",", "▁,", "-", "?", "▁..."]), max_size=80),
    st.integers(1, 20),
    st.integers(0, 20),
)
def test_segments_keep_every_token_in_order_and_the_limit(tokens, max_tokens, quick_tokens):
    segments = split_segments(tokens, max_tokens, quick_tokens)
    assert [token for segment in segments for token in segment] == tokens
    assert all(0 < len(segment) <= max_tokens for segment in segments)


@pytest.mark.parametrize("case", GOLD["cjk_split_cases"], ids=lambda case: case["text"])
def test_spacing_of_cjk_characters_is_the_originals(case):
    assert spaced(case["text"]) == case["split"]
    assert spaced(case["text"], upper=False) == case["split_noupper"]


@pytest.mark.parametrize("case", GOLD["glossary_cases"], ids=lambda case: case["text"])
def test_the_glossary_is_read_as_in_the_original(case):
    assert Normalizer(glossary=GOLD["glossary"]).normalize(case["text"]) == case["normalized"]


def test_a_glossary_file_adds_readings(tmp_path):
    path = tmp_path / "glossary.yaml"
    path.write_text("VoxTune: {en: vox tune}\nGIF: jif\n", encoding="utf-8")
    normalizer = Normalizer(glossary={"DDR": "D D R"})
    normalizer.load_glossary(path)
    assert normalizer.normalize("voxtune makes a gif of DDR") == "vox tune makes a jif of D D R"


def test_a_glossary_without_readings_is_refused(tmp_path):
    path = tmp_path / "glossary.yaml"
    path.write_text("GIF: 3\n", encoding="utf-8")
    with pytest.raises(UserError, match="bad reading of 'GIF'"):
        Normalizer().load_glossary(path)


def test_more_pinyin_than_letters_comes_back_whole():
    words = [f"{a}{b}{tone}" for a in "bpmfdtnl" for b in ("a", "i") for tone in "1234"]
    text = "读" + "读".join(words)
    assert Normalizer().normalize(text) == text


def test_an_engine_that_fails_leaves_the_text_as_it_is():
    class Failing:
        def normalize(self, text: str) -> str:
            raise RuntimeError("no path")

    assert Normalizer({"en": Failing(), "zh": Failing()}).normalize("page 3;") == "page 3,"


# A letter or digit more would be compared with all before it, twenty thousand times.
@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["a" * 20_000, "你好" * 10_000, "你" + "a1" * 10_000])
def test_a_long_text_without_any_mark_takes_no_longer_than_others(text):
    engine: Any = SimpleNamespace(normalize=lambda said: said)
    assert Normalizer({"en": engine, "zh": engine}).normalize(text) == text


class Noting:
    """wetext, and what it was asked for."""

    def __init__(self, language):
        self.asked: list[str] = []
        self.engine = wetext.Normalizer(remove_erhua=False, lang=language, operator="tn")

    def normalize(self, text: str) -> str:
        self.asked.append(text)
        return str(self.engine.normalize(text))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_long_text_is_read_sentence_by_sentence_and_reads_the_same(language, monkeypatch):
    cases = [case["text"] for case in CASES if case["use_chinese"] == (language == "zh")]
    plain = {"en": " He had never been there before. ", "zh": "他们昨天已经走了。"}[language]
    text = plain.join(" ".join(case.split()) for case in cases)
    engine = Noting(language)
    said = Normalizer({language: engine}).normalize(text)  # type: ignore[dict-item]
    assert len(engine.asked) > 1
    monkeypatch.setattr(normalizer, "LONG", 10 * len(text))
    whole = Noting(language)
    assert Normalizer({language: whole}).normalize(text) == said  # type: ignore[dict-item]
    assert len(whole.asked) == 1


def test_control_characters_do_not_reach_the_engine():
    assert Normalizer().normalize("page\x00 3") == "page three"


def test_pauses_are_cut_out_of_the_text():
    parts = split_pauses("[pause:1]One[PAUSE:0.5s] two.[pause: .25][pause:2] ")
    assert parts == [Pause(1.0), "One", Pause(0.5), " two.", Pause(2.25)]


@pytest.mark.parametrize("written", ["-1", "soon", "", "61", "1e9", "nan"])
def test_a_pause_without_sensible_seconds_is_refused(written):
    with pytest.raises(UserError, match="number of seconds"):
        split_pauses(f"One [pause:{written}] two")


def test_a_text_without_pauses_stays_whole():
    assert split_pauses("[PAUSE] well [UH] pause: 3") == ["[PAUSE] well [UH] pause: 3"]


def test_a_plan_holds_segments_and_pauses_in_order(tokenizer):
    planned = plan(tokenizer, "Hello world.[pause:0.8]Hello world. Hello world.", max_tokens=5)
    first, pause, second, third = planned
    assert pause == Pause(0.8)
    assert isinstance(first, Segment)
    assert first.pieces == ("▁HELLO", "▁WOR", "LD", ".")
    assert list(first.ids) == tokenizer.encode("Hello world.")
    assert second == third == first


@pytest.mark.parametrize("text", ["", " \n", "[pause:3]"])
def test_nothing_to_say_is_refused(tokenizer, text):
    with pytest.raises(UserError, match="no text to speak"):
        plan(tokenizer, text)


def test_only_unknown_characters_are_refused(tokenizer):
    with pytest.raises(UserError, match="knows none of these characters"):
        plan(tokenizer, "☃☄ ☃")


def test_a_few_unknown_characters_are_reported(tokenizer, caplog):
    assert plan(tokenizer, "Hello ☃ world.")
    assert "☃" in caplog.text


def test_a_missing_or_foreign_tokenizer_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="no tokenizer model"):
        TextTokenizer(tmp_path / "bpe.model")
    (tmp_path / "bpe.model").write_bytes(b"not a model")
    with pytest.raises(UserError, match="no SentencePiece model"):
        TextTokenizer(tmp_path / "bpe.model")
