"""What the benches have in common. Python's standard library is all they need.

`processes` starts, pins, reads and ends processes; `peers` knows the proxies and their configurations; `loads` the
programs that make requests; `idle` holds connections that do nothing; `callgrind` counts instructions; `tables` and
`plot` write what came of it.
"""
