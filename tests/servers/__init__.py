"""The table of stores: `python -m tests.servers` runs `fanout doctor` on each server that is installed here.

candidates.py   the servers, each with the way to start it and to ask for its version
table.py        the record of their findings, and the table that the documentation shows
"""
