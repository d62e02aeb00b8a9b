"""The page, the API, health and metrics of a running Station. Starlette and uvicorn come with ``pip install 'streamdet[serve]'``.

::

    server.py      uvicorn on a thread of its own            guard.py      who may ask what: token, origin, host, limits
    app.py         every route, bound to one Desk            operation.py  one JSON operation: its types, errors, steps
    desk.py        what the handlers share                   openapi.py    the operations as an OpenAPI document
    contract.py    the bodies of requests and answers        front.py      all of it, from a configuration
    cameras.py events.py rules.py system.py: the operations  addresses.py  which cameras the API may add
    live.py media.py metrics.py: pictures, films, Prometheus static/       the page: HTML, CSS, ES modules as they are
"""
