"""The promise under faults: crashes between any two calls, lost replies, kills, damage, hostile bytes, and memory."""
