"""Where snapshots live: one TLS Redis, every change to it one fenced script."""
