"""`fanout bench`: what a word count costs broker, store and processes, with bare Canvas and with fanout.

`command` is the face; `memory` and `scale` plan the cases; `trial` runs one of them in fresh processes and
`sampler` and `counters` watch; `record`, `table` and `pictures` are what is left of it.
"""
