"""The matrix of meaning: the same cases on each engine and each store.

`test_matrix.py` runs its diagonal. `python -m tests.matrix` runs all of it and writes the table of the docs.
"""
