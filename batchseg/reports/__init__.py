"""What came out of it: money, accuracy, tables, comparisons."""
