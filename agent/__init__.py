"""Slackwater, a node agent: it sees who waits for the CPU, says who causes it, and will act on it."""

__version__ = "0.1.0"
