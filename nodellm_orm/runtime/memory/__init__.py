"""The journal that lives in memory."""
