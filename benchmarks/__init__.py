"""`python -m benchmarks`: what jobs cost and how fast they are, on servers started for it.

Two rooms: `memory` compares what a word count costs broker and processes over bare Canvas and over fanout; in `race`
several ways to do the same work take turns, and what counts is time. Common to them are the servers (`site`), processes
that are driven line by line (`driven`), the watching (`sampler`, `cpu`, `counters`, `machine`), the input (`text`), and
the style of figures (`chart`, `spread`). `command` and `options` are the face.
"""
