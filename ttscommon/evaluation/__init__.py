"""Is one voice better than another, by how much, how sure?"""

EXIT_WORSE = 3  # of tools that found a guard rail broken
NO_RECOGNISER = "none"  # as the name of a Whisper
KEPT = "measured.jsonl"  # what was measured, beside the evaluation, so that it isn't done again
