"""What carries a job's messages: this process, or Celery. A task knows neither."""
