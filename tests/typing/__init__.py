"""Type checkers accept a user's task as the docs show it, and refuse misuse."""
