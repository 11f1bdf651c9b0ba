"""The settings storm: the main cases of the integration tests, under the configurations that users really have.

`python -m tests.storm` starts one RabbitMQ, one Redis and one S3 server. Each configuration gets a virtual host, a
bucket, two workers and a caller of its own. The caller runs the cases one after the other, each with a hard limit.

configuration.py    what a configuration is
configurations.py   the configurations, as data
app.py, tasks.py    the app that callers and workers make from a configuration, and its tasks
routing.py          routers and hooks that configurations name
ground.py           what a case works with
cases.py            the cases
web.py              the caller: a small web server whose requests run cases
site.py             servers, workers and callers
table.py            the table of results, and its record in JSON
"""
