"""UnifiedVoice v2: from text, speaker and emotion to semantic codes."""
