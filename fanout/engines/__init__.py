"""The engines that run jobs: this process (`local`) or Celery. Declared tasks depend on neither."""
