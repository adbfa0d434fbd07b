"""Numbers of many utterances beside their recordings, each with its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from examples.closed_grammar.evaluation import Utterance
from lewm.validation import EARLY_STOP
from ttscommon import audio
from ttscommon.evaluation.scores import paired_ratio_difference, ratio_score, share_score
from ttscommon.evaluation.voices import mean_voice, similarity
from ttscommon.evaluation.wording import normal_words
from ttscommon.metrics import Errors, aligned_words, mel_dtw, word_errors

READ = 0.5  # of the last sentence's words: with fewer, the text wasn't read to its end
Numbers = dict[str, Any]


def score_words(
    texts: Sequence[str], heard: Sequence[str], recordings_heard: Sequence[str] | None = None
) -> Numbers:
    """Word error rate and, where recordings of the same texts were heard, how far above theirs."""
    wer = _columns(texts, heard)
    found = {"n": len(texts), "n_words": int(sum(wer[1])), "wer": ratio_score(*wer).to_dict()}
    if recordings_heard is not None:
        excess = paired_ratio_difference(_columns(texts, recordings_heard), wer)
        found["wer_excess"] = excess.to_dict()
    return found


def score_lengths(said: Sequence[Utterance], recordings: Sequence[Utterance]) -> Numbers:
    """How long it took against the recording, and what broke off or didn't end."""
    ratios = [len(s.audio) / len(r.audio) for s, r in zip(said, recordings, strict=True)]
    distances = [mel_dtw(s.mel, r.mel) for s, r in zip(said, recordings, strict=True)]
    return {
        "length_ratio": ratio_score(ratios, np.ones(len(ratios))).to_dict(),
        "length_ratio_min": min(ratios),
        "length_ratio_max": max(ratios),
        "early_stops": share_score([ratio < EARLY_STOP for ratio in ratios]).to_dict(),
        "runaways": share_score([s.ran_away for s in said]).to_dict(),
        "mel_dtw": float(np.mean(distances)),
    }


def score_ends(
    last_sentences: Sequence[str], texts: Sequence[str], heard: Sequence[str]
) -> Numbers:
    """How many texts were read to their end: their last sentence was heard, most of its words."""
    flags = [
        is_read_to_the_end(last, text, found)
        for last, text, found in zip(last_sentences, texts, heard, strict=True)
    ]
    return {"read_to_the_end": share_score(flags).to_dict()}


def is_read_to_the_end(last_sentence: str, text: str, heard: str) -> bool:
    """Whether at least half of the last sentence's words were heard."""
    wanted, found = (normal_words(words, "en") for words in (text, heard))
    n_last = len(normal_words(last_sentence, "en"))
    same = sum(
        i is not None and j is not None and i >= len(wanted) - n_last and wanted[i] == found[j]
        for i, j in aligned_words(wanted, found)
    )
    return same >= READ * n_last


def score_voices(
    copies: Sequence[audio.Audio], recordings: Sequence[audio.Audio]
) -> dict[str, float]:
    """Cosines of speaker embeddings, means over the clips.

    Args:
        copies, recordings: embeddings (D,) of each clip, in the same order

    Returns:
        own: of a copy and its recording
        others: of a copy and the other recordings' mean voice
        recordings: of a recording and the others' mean voice; what `others` can reach
    """
    rest = [mean_voice([*recordings[:i], *recordings[i + 1 :]]) for i in range(len(recordings))]
    pairs = {
        "own": (copies, recordings),
        "others": (copies, rest),
        "recordings": (recordings, rest),
    }
    return {
        name: float(np.mean([similarity(a, b) for a, b in zip(*both, strict=True)]))
        for name, both in pairs.items()
    }


def _columns(texts: Sequence[str], heard: Sequence[str]) -> tuple[list[int], list[int]]:
    errors: list[Errors] = [word_errors(t, h) for t, h in zip(texts, heard, strict=True)]
    return [error.n_errors for error in errors], [error.n_units for error in errors]
