"""`python -m benchmarks`: contenders do the same work on servers started for it, and each run is measured.

A comparison (`comparisons`) says which contenders (`contenders`) do which workloads (`workloads`). A session
(`session`) is fresh processes of one contender on fresh servers (`servers`), driven through `caller`. It yields runs
(`run`), one JSON line each. `processes`, `counters`, `stages` and `machine` measure. `figures`, `tables` and `pictures`
show. `growth` is a model of large jobs, which measures nothing.
"""
