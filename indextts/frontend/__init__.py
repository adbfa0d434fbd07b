"""From files and text to what the networks read."""
