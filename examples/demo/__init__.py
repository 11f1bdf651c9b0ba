"""A word count through real Celery workers and the real S3 protocol, all on this machine."""

from .demo import run_demo

__all__ = ["run_demo"]
