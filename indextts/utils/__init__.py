"""Names that guides promise here; the work is done elsewhere in the package."""
