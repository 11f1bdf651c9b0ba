"""The protocol under a scheduler that loses, delays, doubles, reorders and kills, in virtual time and one OS thread.

`world` plays one schedule; `shape` says what may go wrong in it; `python -m tests.simulation` plays many.
"""
