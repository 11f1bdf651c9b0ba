"""Settings of a process and options of a task or call."""
