"""Comparing labels: confusion matrices, every score made from them, and the references that they are scored against."""
