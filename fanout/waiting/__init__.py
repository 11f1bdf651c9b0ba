"""Callers that wait for a job, in a thread or in an event loop.

view.py      the records of a job that a handle has seen
wait.py      the timeout, the pauses and the duties of one waiting caller
steps.py     generators that say when to ask the store and what to read; a thread runs them here
aio.py       an event loop runs them here, with a few threads for all callers of the process
results.py   the steps that give value and results, in item order or in order of arrival
scan.py      which chunks are done, one page of a listing at a time
watch.py     the progress of a job, from one request a second
bar.py       a progress bar; drawing.py draws it with rich
feed.py      what `for` and `async for` iterate over
"""
