"""Work of a process that runs beside its steps."""
