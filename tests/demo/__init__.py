"""The whole story on a real cluster, each step with its proof: `make demo`.

Idea: the sample app's next state is a pure function of its state (tests/apps/network.py). So nothing here trusts what
the product says about itself: the demo computes the state that a snapshot must hold, finds the tick whose digest the
snapshot carries, goes on from there by itself, and compares the result field by field with what the restored app
exports. A marker set by hand before each fault tells a restored state from a fresh one that happens to go the same way.

Where things are: `proof.py` judges (pure), `reach.py` looks and touches, `stage.py` installs and cleans, `story.py` is
the steps as data, `terminal.py` talks.

Deliberately not here: faults of nodes, Redis and the API server; the tests under tests/cluster have those.
"""
