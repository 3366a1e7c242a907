"""Capture, commit, restore, flush: workflows over ports, the same in every host."""
