"""`python -m benchmarks growth`: a model of large jobs on S3, which starts no server and measures nothing.

`limits` has S3's documented request rates and the clients' backoff. `plan` has the assumptions and what follows from
them by arithmetic. `model` lets the workers of a plan act on each other, event by event, around a `queue`. `command`
prints.
"""
