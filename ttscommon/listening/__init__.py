"""Pages to listen and judge on, and what the answers say."""
