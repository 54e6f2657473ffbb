"""Chats with any model, kept in your own SQL database."""
