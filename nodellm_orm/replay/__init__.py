"""Replay: stored questions asked again beside their old answers, and stored answers played without a provider."""
