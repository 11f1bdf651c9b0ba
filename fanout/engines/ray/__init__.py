"""The engine for Ray: jobs run as tasks of a cluster, without Celery and without a broker.

    import ray
    from fanout.engines.ray import RayEngine

    ray.init("auto")
    engine = RayEngine(store="s3://bucket/jobs")
    job = WordCount.submit({"documents": documents}, engine=engine)

It needs `pip install fanout[ray]`, on all nodes.
"""

from .engine import RayEngine

__all__ = ["RayEngine"]
