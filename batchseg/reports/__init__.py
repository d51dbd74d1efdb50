"""Results of a run: money, accuracy, tables, comparisons."""
