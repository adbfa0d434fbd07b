"""From a mel spectrogram to sound: BigVGAN v2."""
