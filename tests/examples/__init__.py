"""Acceptance tests of the examples: each gives the answer of its serial twin, wherever it runs."""
