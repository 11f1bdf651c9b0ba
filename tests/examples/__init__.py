"""Acceptance tests of the examples: each gives the answer of its serial version, on each engine."""
