"""`python -m jobs` is `batchseg`."""

from jobs.cli import process

process()
