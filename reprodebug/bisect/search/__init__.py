"""Searching, knowing nothing of git, processes or files: questions out, answers in."""
