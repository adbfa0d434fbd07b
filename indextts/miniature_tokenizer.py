"""A small SentencePiece tokenizer for miniature checkpoints, trained on the sentences below.

Like the official one it has pieces of capitals, of single CJK characters and of marks.
"""

from __future__ import annotations

import io

from sentencepiece import SentencePieceTrainer

from indextts.frontend.tokenizer import spaced

N_PIECES = 420
SENTENCES = """
The quick brown fox jumps over the lazy dog, and the dog does not mind at all.
Good morning! Did you sleep well? Yes, thank you, I slept very well.
Every voice is a little different: some are slow, some are quick, some are in between.
She said that she would come back tomorrow, but nobody in the village believed her.
It was raining when we left the house - just a light rain, nothing to worry about...
He has been working on the same old engine for nearly twenty years now.
What would you like to drink? There is coffee, there is tea, and there is water.
Please read the next sentence aloud, then wait for a moment, then read it again.
The children were playing in the garden while their parents prepared the dinner.
We should have taken the other road, because this one is closed for the winter.
"I don't know," the old man answered, "but I can't remember ever having seen it."
Our train leaves at half past seven, so we'll have to be at the station before that.
One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirty, a hundred.
How long does it take to learn to speak? That depends on the teacher and on the pupil.
Just give me five more minutes; this is a very exciting part of the story.
The mountain was covered with fresh snow, and the sky above it was perfectly clear.
Nobody expected the question, yet everybody had an answer ready for it!
A zebra, a yak, an ox and a jaguar quietly watched the wizard's vexing experiment.
This is a test of the system. Hello world, hello everyone, and welcome to the show.
0 1 2 3 4 5 6 7 8 9, 10 and 20 and 2024 (or later).
早上好，你昨天晚上睡得好吗？
今天的天气很好，我们一起去公园走走吧。
他说他明天会来，可是谁也不相信他的话。
这是一个很小的声音模型，它只会发出声音，不会说话！
一二三四五六七八九十百千万零点年月日时分秒。
中国的孩子们在学校里学习语文、数学和英语。
大家都在家里等着，因为外面下着大雨……
请再说一遍，我没有听清楚。谢谢！
"""


def train_tokenizer() -> tuple[bytes, int]:
    """A SentencePiece model file and its number of pieces; the same in every run."""
    written = io.BytesIO()
    lines = [spaced(line).translate(MARKS) for line in SENTENCES.strip().split("\n")]
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        model_type="bpe",
        vocab_size=N_PIECES,
        character_coverage=1.0,
        bos_id=0,
        eos_id=1,
        unk_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue(), N_PIECES


# As the normaliser writes them.
MARKS = str.maketrans({'"': "'", "(": "'", ")": "'", ";": ",", ":": ",", "，": ",", "。": ".",
                       "？": "?", "！": "!", "、": ","})  # fmt: skip
