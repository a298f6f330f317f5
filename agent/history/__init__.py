"""What was decided, why, and what came of it, kept in SQLite within bounds.

    loop -> writer (a queue and a thread) -> book (what is new) -> store (the file)      reader -> cli/story.py

Nothing that the loop calls waits for a disk. Identity is the cgroup id; the path is stored beside it for printing.
"""
