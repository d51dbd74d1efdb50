"""From the pixels of a chunk to its labels: inputs, routes, batches, stitching."""
