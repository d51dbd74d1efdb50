"""The kinds of tasks: one file per kind says how a worker performs it, what is left of it and what it waits for."""
