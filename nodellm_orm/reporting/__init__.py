"""What the ledger says: usage, failures, costs and times, by whatever is asked for."""
