"""A word count through a real Celery worker and the real S3 protocol, on nothing but this machine."""

from .demo import run_demo

__all__ = ["run_demo"]
