"""Snapshots of resonance networks: taken every few seconds, kept in a TLS Redis, given back to a restarted pod.

Importing the package opens nothing, reads nothing and costs nothing: the agent must be at work within 300 ms, so
whatever is heavy is imported by the part that needs it.  The only name here is the version; it is the one source of
the version of the distribution and of both images.
"""

__version__ = "0.1.0"
