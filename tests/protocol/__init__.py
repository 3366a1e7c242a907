"""The protocol, explored: a readable world that moves by the product's own pure decisions."""
