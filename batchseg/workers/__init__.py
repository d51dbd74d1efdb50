"""Workers and their pools, the events between them and the run state, and what happens in a run."""
