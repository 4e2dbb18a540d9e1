"""Other ways to run a network's layers: compiled, or in OpenVINO.

A backend is built for one shape of input. That takes seconds to minutes, so what was
built is kept; it pays for networks that cannot be streamed and for long runs.
"""
