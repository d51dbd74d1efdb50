"""Runs: what is left to do, which worker does it, the driver's loop, nights, and the plan of a run."""
