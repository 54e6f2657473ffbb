"""What must hold of stored chats: pure functions from rows to findings."""
