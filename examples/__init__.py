"""Example tasks. `README.md` describes them."""
