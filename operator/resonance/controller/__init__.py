"""Host 2, the control plane: kopf handlers, adoption, status and metrics."""
