"""The engine of a turn: one loop for ``ask`` and ``stream``, tools, retries, limits and hooks."""
