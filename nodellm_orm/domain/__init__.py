"""The vocabulary of conversations: frozen values that know nothing of ids, storage or providers."""
