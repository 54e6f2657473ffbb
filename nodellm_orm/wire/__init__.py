"""Wire formats: pure functions from values to request bytes and from response bytes to values."""
