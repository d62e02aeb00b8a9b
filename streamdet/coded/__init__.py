"""Encoded pictures: packets as data, an encoder, MP4 files. What recording/ and the sinks of the annotated stream share."""
