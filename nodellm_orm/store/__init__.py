"""Where chats live in SQL: records, portable column types, the durable points of a turn, and the schema's versions."""
