"""What outlives a request: jobs, limits, the lent card, the history."""
