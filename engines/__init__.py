"""The embedded models and the recipe that makes them. Not imported by streamdet; `python -m engines.train` needs `[train]`."""
