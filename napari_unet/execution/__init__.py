"""Execution: run a generator of events here or in a child process."""
