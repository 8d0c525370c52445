"""Runtimes that people deploy to: each with its own library."""
