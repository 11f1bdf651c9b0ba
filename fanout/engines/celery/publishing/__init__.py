"""Publishing to a broker that may be slow, full or unreachable.

broker.py      which kind of broker an app uses
connection.py  connections on which every wait has a limit
publisher.py   messages that RabbitMQ confirms, many at once
publish.py     publishes messages within a time limit
requeue.py     returns a stage's own message to the broker
undo.py        removes a job whose launch has failed
"""
