"""A job as it lies in the store: its keys, its records, and the ledger that reads and writes them."""
