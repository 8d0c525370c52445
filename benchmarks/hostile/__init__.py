"""Hostile and broken input for slimnet, and what tells whether a command withstood it (`benchmarks/robustness.py`)."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
