"""Host 1, the data plane: restore and serve inside the user's pod, without Kubernetes credentials."""
