"""Tracks become events: the life of every object, zones, lines, dwell and speed."""
