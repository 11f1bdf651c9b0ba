"""Declared tasks, checked: their steps, the schema of their input, and which step takes which parameter."""
