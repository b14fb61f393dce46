"""What clients see: addresses, streams, snapshots, status."""
