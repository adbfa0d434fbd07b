"""From semantic codes to a mel spectrogram, in the voice of a reference."""
