"""The engine: how one chunk of pixels becomes labels."""
