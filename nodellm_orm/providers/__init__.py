"""Providers are rows: where each is, how its key is sent, which wire formats it speaks, what its models accept."""
