"""A run: its plan, its state, its driver loop, and the ledger that survives it."""
