"""`python -m benchmarks memory` and `python -m benchmarks scale`: what a word count costs broker, store and processes.

`command` is the face; `cases` plans; `trial` runs one case in fresh processes while `sampler` and `counters` watch;
`record`, `table` and `pictures` are what is left of it.
"""
