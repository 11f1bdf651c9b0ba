"""A job in its store: the keys, the records, and the ledger that reads and writes them."""
