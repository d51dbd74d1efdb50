"""The verbs of the command line, one per file: parse arguments, call the Python function, print its result."""
