"""Is one voice better than another, by how much, how sure?"""

KEPT = "measured.jsonl"  # what was measured, beside the evaluation, so that it isn't done again
