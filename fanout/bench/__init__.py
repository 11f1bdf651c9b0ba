"""`fanout bench`: what jobs cost and how fast they are, on servers started for it.

Each benchmark has a room: `memory` compares a word count over bare Canvas with one over fanout. Common to
them are the servers (`site`), processes that are driven line by line (`driven`), the watching (`sampler`, `counters`,
`machine`), the input (`text`), and the style of figures (`chart`, `spread`). `command` and `options` are the face.
"""
