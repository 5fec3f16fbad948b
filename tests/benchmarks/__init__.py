"""The figures of docs/performance.md: `make bench`.

Or one after the other: `python -m tests.benchmarks` for the pages, `tests.benchmarks.mlflow` for
the API beside stock MLflow's, `tests.benchmarks.files` for uploads and downloads. Measured against
the running product, as `manage.py serve` serves it, over HTTP. They are figures and no tests: they
depend on the machine.
"""
