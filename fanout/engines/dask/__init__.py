"""The engine for Dask: jobs run as tasks of a cluster of `distributed`, without Celery and without a broker.

    from distributed import Client
    from fanout.engines.dask import DaskEngine

    engine = DaskEngine(Client("scheduler:8786"), store="s3://bucket/jobs")
    job = WordCount.submit({"documents": documents}, engine=engine)

It needs `pip install fanout[dask]`, on the workers too.
"""

from .engine import DaskEngine

__all__ = ["DaskEngine"]
