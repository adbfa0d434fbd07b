"""What a language model says about a text becomes eight weights."""

import numpy as np
import pytest
import soundfile
import torch

from indextts.emotion import EMOTIONS
from indextts.emotion_text import EmotionReader, parsed
from indextts.infer_v2 import IndexTTS2
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


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A Qwen3 of a few thousand random weights that knows bytes and stops at once."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("qwen")
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_only = Tokenizer(models.BPE(vocab=letters, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=256,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = list(range(256))
    model.save_pretrained(folder)
    return folder


def test_a_model_in_a_folder_is_asked(qwen):
    assert EmotionReader.from_folder(qwen, torch.device("cpu")).vector("Hurray!") == weights(calm=1)


def test_the_mood_of_a_text_takes_effect(qwen, miniature, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in miniature.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "qwen0.6bemo4-merge").symlink_to(qwen)
    tts = IndexTTS2(model_dir=folder, device="cpu")
    recording = tmp_path / "me.wav"
    soundfile.write(recording, np.random.default_rng(0).standard_normal(22_050) / 10, 22_050)
    asked = tts.request(recording, "Hurray!", use_emo_text=True, emo_text="Hurray!", seed=1)
    assert asked.mood.vector == weights(calm=1)
    off = IndexTTS2(model_dir=folder, device="cpu", use_qwen_emo=False)
    with pytest.raises(UserError, match="use_qwen_emo is off"):
        off.request(recording, "Hurray!", use_emo_text=True)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot load the text emotion model"):
        EmotionReader.from_folder(tmp_path, torch.device("cpu"))
