"""The agent as real processes beside a real app, over a real TLS Redis."""
