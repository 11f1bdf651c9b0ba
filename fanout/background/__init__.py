"""Threads that work beside the steps of a process."""
