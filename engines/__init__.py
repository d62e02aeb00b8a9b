"""The embedded models and the recipe that makes them. Nothing here is imported by streamdet; `python -m engines.train` needs `streamdet[train]`."""
