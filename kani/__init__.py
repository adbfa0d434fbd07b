"""KaniTTS (LFM2 + NanoCodec): LoRA experiments on one prepared data set, ranked."""
