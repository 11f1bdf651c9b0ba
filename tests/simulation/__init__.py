"""The protocol under a scheduler that loses, delays, duplicates and reorders messages and kills processes.

The simulation runs in virtual time and one OS thread. `world` plays one schedule, and `shape` has the parameters of a
schedule. `python -m tests.simulation` plays many.
"""
