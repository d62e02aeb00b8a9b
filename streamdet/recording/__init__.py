"""Clips and snapshots of events: cut from the camera's own packets, kept for a while, found again by name."""
