"""Mutated messages and objects against the parser, the codec and live workers: `python -m tests.fuzz`."""
