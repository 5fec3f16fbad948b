"""Searches: every operator, order and page, on models that the client itself registers."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from tests.clients.talk import refusal


def search(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Register the models that are asked for, then search for them and for their versions."""
    client = MlflowClient()
    for name, tags in asked["models"].items():
        client.create_registered_model(name, tags=tags)
    for name, source, run_id, tags in asked["versions"]:
        client.create_model_version(name, source, run_id=run_id, tags=tags)
    return {
        "models": {
            text: sorted(
                found.name for found in mlflow.search_registered_models(filter_string=text)
            )
            for text in asked["model filters"]
        },
        "versions": {
            text: sorted(
                f"{found.name}/{found.version}"
                for found in mlflow.search_model_versions(filter_string=text)
            )
            for text in asked["version filters"]
        },
        "model orders": [
            [
                found.name
                for found in client.search_registered_models("name LIKE 'm-%'", order_by=order)
            ]
            for order in asked["model orders"]
        ],
        "version orders": [
            [
                f"{found.name}/{found.version}"
                for found in client.search_model_versions("name LIKE 'm-%'", order_by=order)
            ]
            for order in asked["version orders"]
        ],
        "model pages": _pages(client.search_registered_models),
        "version pages": _pages(client.search_model_versions),
        "refused": [
            refusal(lambda text=text: client.search_registered_models(text))  # type: ignore[misc]
            for text in asked["refused"]
        ],
    }


def _pages(search: Any) -> list[list[str]]:
    pages: list[list[str]] = []
    token = None
    while token or not pages:
        page = search("name LIKE 'm-%'", max_results=5, order_by=["name DESC"], page_token=token)
        pages.append([f"{found.name}/{getattr(found, 'version', '')}" for found in page])
        token = page.token
    return pages
