"""External objects: objects of the user's outside fanout's own store, and the access of a process to them."""
