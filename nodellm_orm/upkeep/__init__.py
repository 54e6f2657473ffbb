"""What keeps a database of chats healthy: integrity, retention, and a look at the database itself."""
