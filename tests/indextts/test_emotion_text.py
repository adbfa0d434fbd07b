"""What a language model says about a text becomes eight weights."""

import pytest
import torch

from indextts.emotion import EMOTIONS
from indextts.emotion_text import EmotionReader, parsed
from ttscommon.errors import UserError


def weights(**values: float) -> tuple[float, ...]:
    return tuple(values.get(name, 0.0) for name in EMOTIONS)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ('{"高兴": 0.8, "自然": 0.2}', weights(happy=0.8, calm=0.2)),
        ("高兴: 0.8, 自然：0.2 and so on", weights(happy=0.8, calm=0.2)),  # no JSON
        ('{"高兴": 3, "愤怒": -1}', weights(happy=1.2)),  # outside of 0..1.2
        ('{"emotion": "surprised"}', weights(surprised=1.0)),  # a label alone
        ('{"高兴": 0.0}', weights(calm=1.0)),  # nothing at all
        ("I don't know", weights(calm=1.0)),
        ('["高兴"]', weights(calm=1.0)),
        ('{"高兴": "NaN", "悲伤": 0.5}', weights(sad=0.5)),
        ('{"高兴": null, "悲伤": 0.5}', weights(sad=0.5)),
    ],
)
def test_answers_are_read(answer, wanted):
    assert parsed(answer) == wanted


def test_sadness_is_melancholy_where_the_text_says_so():
    reader = EmotionReader(lambda text: '{"悲伤": 0.7, "低落": 0.1}')
    assert reader.vector("He cried.") == weights(sad=0.7, melancholic=0.1)
    assert reader.vector("A GLOOMY day") == weights(sad=0.1, melancholic=0.7)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot load the text emotion model"):
        EmotionReader.from_folder(tmp_path, torch.device("cpu"))
