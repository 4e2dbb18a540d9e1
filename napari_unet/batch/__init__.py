"""Batch: many images, one ledger, no file lost."""
