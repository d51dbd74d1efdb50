"""What you submit: the command line, the Ray pool, cluster jobs. The only ring that imports Ray."""
