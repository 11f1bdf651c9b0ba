"""The common part of the engines for Dask and Ray, whose clusters carry messages as Python objects."""
