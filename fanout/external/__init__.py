"""Objects of the user's, outside fanout's own store: where they lie, and what a process may read and write of them."""
