"""The wheel on each Python that is installed, and with the lowest dependencies: `python -m tests.pythons`.

The sessions are those of noxfile.py. The record is docs/pythons.json, and the table is in docs/pythons.md.
"""
