"""What mjrelay costs, beside the least a relay can cost; see docs/explanation/performance.md."""
