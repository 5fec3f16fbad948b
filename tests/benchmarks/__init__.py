"""The figures of the README: `python -m tests.benchmarks`, or `make bench`.

Measured against the running product, as `manage.py serve` serves it, over HTTP. They are figures
and no tests: they depend on the machine.
"""
