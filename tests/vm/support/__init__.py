"""What the scenarios are told in: a camera, the relay as a service, its viewers, its rivals."""
