"""Looks at a database and its surroundings, and says what to do about what is not right."""
