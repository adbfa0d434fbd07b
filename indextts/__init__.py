"""IndexTTS2: inference, voice LoRA, full fine-tuning, pattern embeddings."""
