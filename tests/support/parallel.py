"""How tests are shared out among the processes of a parallel run."""

from xdist.scheduler import LoadScopeScheduling

#: One process runs all tests whose ids begin so: they share what takes long to start.
TOGETHER = {
    "tests/exchange/test_mlflow.py": "MLflow's server",
    "tests/files/test_files_pages.py::test_the_code_works": "MLflow's clients",
    "tests/identity/test_pods_with_mlflow.py": "MLflow's clients",
    "tests/mlflow/test_artifact_endpoints.py::test_mlflows_own_client": "MLflow's clients",
    "tests/mlflow/test_client.py": "MLflow's clients",
    "tests/platform/test_embedded_postgres.py": "embedded PostgreSQL",
}


class OneByOne(LoadScopeScheduling):
    """Gives each process one test after the other, and tests that belong together to one process.

    xdist's own groups (``--dist loadgroup``) are lost with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        for beginning, group in TOGETHER.items():
            if nodeid.startswith(beginning):
                return group
        return nodeid
