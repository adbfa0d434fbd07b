"""LeWM-TTS: a 24 M JEPA text-to-speech model trained from scratch."""
