"""What is promised, tried: units, a real TLS Redis, a real Kubernetes, and the programs that make them."""
