"""The file of clusters is read as a whole, or refused with the place of what is wrong in it."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from tenants.clusters import Cluster, read_clusters


def test_each_cluster_of_the_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "clusters.yaml"
    file.write_text(
        "- {name: one, kubeconfig: /etc/kube, context: here}\n"
        "- {name: two, issuer: https://two, keys: /keys, ca: /ca, token: /token}\n"
    )
    assert read_clusters(str(file)) == (
        Cluster("one", kubeconfig="/etc/kube", context="here"),
        Cluster("two", issuer="https://two", keys="/keys", ca="/ca", token="/token"),
    )
    assert read_clusters("") == (Cluster("default"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no list of clusters"),
        ("[]", "is no list of clusters"),
        ("name: one", "is no list of clusters"),
        ("[one", "cannot be read"),
        ("[one]", r"\$\[0\]: expected an object"),
        ("[{name: one}, {name: two, url: x}]", r"\$\[1\]\.url: unknown key; those known here are"),
        ("[{name: 5}]", r"\$\[0\]\.name: expected text"),
        ("[{name: no}]", r"\$\[0\]\.name: expected text"),
        ("[{name: One}]", r"\$\[0\]: 'One' is no name"),
        ("[{}]", r"\$\[0\]: '' is no name"),
        ("[{name: one, issuer: x}]", r"\$\[0\]: one needs issuer and keys, or neither of them"),
        ("[{name: one}, {name: one}]", "two clusters have the same name"),
        (
            "[{name: one, issuer: x, keys: y}, {name: two, issuer: x, keys: z}]",
            "two clusters have the same issuer",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "clusters.yaml"
    file.write_text(text)
    with pytest.raises(ImproperlyConfigured, match=f"^BULKHEAD_CLUSTERS: .*{problem}"):
        read_clusters(str(file))
