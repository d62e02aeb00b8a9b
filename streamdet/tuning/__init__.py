"""Fitting streamdet to one's own material: wider networks, tile plans, anchors, sliced data sets, reports."""
