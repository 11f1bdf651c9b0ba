"""Benchmarks in which several ways to do the same work take turns.

`races` says who runs what; `works` is the work, `entries` who can run it, `engines` how. `heat` lets one entry run in
fresh processes, `runner` being the caller's; `lap` is what is left of one run; `table` and `pictures` show it.
"""
