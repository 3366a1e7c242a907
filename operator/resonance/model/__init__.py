"""What a snapshot is, when it is due, who may claim what, what the status says: pure, no I/O, no clock, no logging."""
