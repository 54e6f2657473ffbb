"""Chats as a file: exported row by row, imported chat by chat; and tables for analysis."""
