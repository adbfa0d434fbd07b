"""The voice that comes with this repository, and who speaks where nobody is named.

`examples/embedded_voice` says how it was made.
"""

from pathlib import Path

EMBEDDED_VOICE = Path(__file__).resolve().parents[1] / "examples/embedded_voice/voice"
EMBEDDED_SPEAKER = "heart"
