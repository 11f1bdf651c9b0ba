"""The settings storm: the main cases of the integration tests, under configurations that users have.

`python -m tests.storm` starts one RabbitMQ, one Redis and one S3 server. Each configuration gets its own virtual host,
bucket, two workers and caller. The caller runs the cases one after the other, each with a time limit.

configuration.py      the class of a configuration
configurations.py     the configurations, as data
app.py, tasks.py      the app of caller and workers under a configuration, and its tasks
matrix.py             every broker with every result backend
routing.py            routers and hooks that configurations name
case_environment.py   the caller's app and the files of one case
cases.py              the cases
web.py                the caller: a small web server that runs one case per request
site.py               servers, workers and callers
table.py              the table of results, and its record in JSON
"""
