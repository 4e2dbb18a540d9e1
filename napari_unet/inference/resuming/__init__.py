"""Runs that were ended go on: a journal of what is finished, and a keeper of it."""
