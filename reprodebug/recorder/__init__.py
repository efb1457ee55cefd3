"""Floor 3: the guest inside the recorded program. Standard library, numpy, torch and xxhash as found, nothing else.

It draws no random numbers, keeps no tensor alive, changes no graph and lets no exception of its own reach the program.
"""
