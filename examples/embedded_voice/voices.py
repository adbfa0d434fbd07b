"""Who speaks: the voices of the corpus, how much each says, and where they come from.

A voice is an engine with a style, and a size: its sound is resampled, so that a size of 0.88 makes
a longer throat and a lower pitch out of the same voice at the same pace. Sizes and mixtures give
the autoencoder more kinds of voices than there are, and no living person sounds like them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAMPLE_RATE = 24000
CHUNK = 64  # texts that one voice says in a row; the unit of work and of resuming


@dataclass(frozen=True)
class Voice:
    """One speaker of the corpus.

    Attributes:
        engine: "hibari", "vits", "kokoro" or "flite"
        style: the engine's voice, or several with their shares, "jm_kumo=0.6 jf_alpha=0.4"
        chunks: how many chunks of texts it says while the others say theirs
        size: pitch and formants are this times the engine's
        pace: speaking rate against the engine's own
        pitch: the pitch alone is this times the engine's; hibari only
    """

    name: str
    engine: str
    style: str
    chunks: int
    size: float = 1.0
    pace: float = 1.0
    pitch: float = 1.0


VOICES = (
    Voice("heart", "hibari", "heart", 100),
    Voice("joe", "vits", "joe", 24, pace=1.05),
    Voice("heart_low", "hibari", "heart", 24, size=0.86, pace=0.9),
    Voice("heart_high", "hibari", "heart", 18, size=1.12),
    Voice("heart_deep", "hibari", "heart", 24, size=0.84, pitch=0.65, pace=0.82),
    Voice("joe_low", "vits", "joe", 5, size=0.91),
    Voice("joe_high", "vits", "joe", 8, size=1.15, pace=1.05),
    Voice("slt", "flite", "slt", 12),
    Voice("rms", "flite", "rms", 12, pace=1.05),
    Voice("awb", "flite", "awb", 9),
    # Kokoro's have their turns, but the embedded voice wasn't trained on them: they are strangers
    # to measure on.
    Voice("kumo", "kokoro", "jm_kumo", 4),
    Voice("alpha", "kokoro", "jf_alpha", 1),
    Voice("gongitsune", "kokoro", "jf_gongitsune", 1),
    Voice("nezumi", "kokoro", "jf_nezumi", 1),
    Voice("tebukuro", "kokoro", "jf_tebukuro", 1),
    Voice("kumo_alpha", "kokoro", "jm_kumo=0.6 jf_alpha=0.4", 2),
    Voice("kumo_nezumi", "kokoro", "jm_kumo=0.5 jf_nezumi=0.5", 2),
    Voice("kumo_low", "kokoro", "jm_kumo", 2, size=0.9),
)
HELD_OUT_VOICES = ("heart", "joe")  # say the held-out texts as well


def named(names: Sequence[str]) -> tuple[Voice, ...]:
    """The voices of those names; all of them for none."""
    return tuple(voice for voice in VOICES if not names or voice.name in names)


def schedule(n_chunks: int, voices: Sequence[Voice] = VOICES) -> list[Voice]:
    """Who says each chunk: at every point each voice has said about its share of all.

    The voice that is furthest behind comes next, so a longer schedule begins with a shorter one.
    """
    total = sum(voice.chunks for voice in voices)
    said = dict.fromkeys((voice.name for voice in voices), 0)
    order = []
    for position in range(1, n_chunks + 1):
        due = max(voices, key=lambda v: position * v.chunks / total - said[v.name])
        said[due.name] += 1
        order.append(due)
    return order
