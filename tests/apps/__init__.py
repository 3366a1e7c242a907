"""Resonance networks as real programs, in two languages that agree to the last bit; see network.py for the idea."""
