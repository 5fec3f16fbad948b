"""The pages say what is there: each command, option, file, name, variable and link of them.

Whoever renames one of these learns here which page to change.
"""

import ast
import importlib.util
import json
import re
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from django.apps import apps
from django.conf import settings as django_settings
from django.core.management import (
    CommandError,
    CommandParser,
    call_command,
    find_commands,
    get_commands,
    load_command_class,
)

from models_registry.exchange import json_document, team_rules
from tenants.clusters import read_clusters
from tenants.identity.tokens import PREFIX_CHARS
from tenants.kubernetes.bundle import objects as bundle
from tenants.models import ApiToken, Membership, Tenant
from tests.support import ROOT
from tests.support.certificates import Authority
from tests.support.markdown import Page, Typed, page, pages
from tests.support.people import World, make_user

PAGES = pages()
each_page = pytest.mark.parametrize("doc", PAGES, ids=str)

MAX_PICTURE_BYTES = 100 * 1024
OURS = ("bulkhead", "tenants", "models_registry")
#: Programs that the pages use and that are not Bulkhead's; ``apply`` is an alias on its page.
FOREIGN = {"alias", "apply", "grep", "kubectl", "pg_dump", "pg_restore", "pip", "psql"}
#: Variables of MLflow's clients, which Bulkhead itself does not read.
MLFLOW_VARIABLES = {
    *("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE", "MLFLOW_TRACKING_AUTH"),
}
#: Options of Kubernetes' programs, and of every command of Django's.
FOREIGN_OPTIONS = {"--as", "--service-account-issuer", "--help"}
FOLDERS = ("platform/", "tenants/", "models_registry/", "templates/", "tests/", "docs/")
LEAKS = range(1, 38)


# --- what is there -------------------------------------------------------------------------


@cache
def names_in(path: Path) -> set[str]:
    """Return the functions, classes and variables that a module defines, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@cache
def known_tests() -> dict[str, str]:
    """Return the docstring of each test, by its name."""
    return {
        name: docstring
        for path in (ROOT / "tests").rglob("test_*.py")
        for name, docstring in docstrings_of(path).items()
    }


@cache
def docstrings_of(path: Path) -> dict[str, str]:
    """Return the docstring of each test of a module, by the test's name."""
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@cache
def parser_of(command: str) -> CommandParser:
    """Return the parser of a command of manage.py; raises KeyError for one that is not there."""
    made = load_command_class(get_commands()[command], command)
    return made.create_parser("manage.py", command)


@cache
def options_of(command: str) -> set[str]:
    """Return the options that a command takes."""
    return set(parser_of(command)._option_string_actions)


def own_commands() -> set[str]:
    """Return the commands that Bulkhead brings."""
    folders = [f"{apps.get_app_config(label).path}/management" for label in OURS]
    return {command for folder in folders for command in find_commands(folder)}


@cache
def make_targets() -> dict[str, str]:
    """Return what ``make`` lists, and every target's line."""
    found = re.findall(r"^([a-z-]+):(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return dict(found)


@cache
def variables() -> dict[str, bool]:
    """Return the environment variables that the product reads, and whether each is a secret."""
    found: dict[str, bool] = {}
    for folder in ("platform", "tenants", "models_registry"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= _read_in(ast.parse(path.read_text()))
    return found


def _read_in(module: ast.Module) -> dict[str, bool]:
    """Return the variables that a module reads by ``bulkhead.env``."""
    found: dict[str, bool] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Tuple):  # the names that a loop tries one after the other
            names = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            found |= {
                name: False for name in names if isinstance(name, str) and name.startswith("AWS_")
            }
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.args[0] if node.args else None
        of_env = isinstance(node.func.value, ast.Name) and node.func.value.id == "env"
        if of_env and isinstance(name, ast.Constant):
            found[str(name.value)] = node.func.attr == "secret"
    return found


# --- links, files and names ----------------------------------------------------------------


@each_page
def test_each_link_leads_to_a_page_and_a_heading(doc: Page) -> None:
    for link in doc.links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (doc.path.parent / path).resolve() if path else doc.path
        assert target.exists(), f"{doc}: {link}"
        if anchor:
            assert anchor in Page(target).anchors, f"{doc}: {link}"


@each_page
def test_each_file_and_each_name_in_it_is_there(doc: Page) -> None:
    for code in doc.codes:
        path, _, name = code.partition(":")
        if not path.startswith(FOLDERS) or set(path) & set("…<*$ "):
            continue
        assert (ROOT / path).exists(), f"{doc}: {code}"
        if name:
            assert name in names_in(ROOT / path), f"{doc}: {code}"


@each_page
def test_each_test_that_is_named_is_there(doc: Page) -> None:
    for code in doc.codes:
        if re.fullmatch(r"test_\w+", code):
            assert code in known_tests(), f"{doc}: {code}"


@pytest.mark.parametrize("app", ["tenants", "models_registry"])
def test_no_module_imports_from_a_floor_above_its_own(app: str) -> None:
    told = page("docs/architecture.md").text.partition(f"### Floors of {app}\n")[2]
    listed = re.split(r"^\d+\. ", told.strip().partition("\n\n")[0], flags=re.MULTILINE)[1:]
    floors = {
        path.removesuffix(".py").strip("/").replace("/", "."): number
        for number, text in enumerate(listed)
        for path in re.findall(rf"`({app}/[^`]+)`", text)
    }
    graph = grimp.build_graph(app, cache_dir=None)

    def floor(module: str) -> int | None:
        rooms = [name for name in floors if f"{module}.".startswith(f"{name}.")]
        return floors[max(rooms, key=len)] if rooms else None

    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            above, below = floor(module), floor(imported)
            if above is not None and below is not None:
                assert above <= below, f"{module} imports {imported}"


def test_every_page_is_in_the_readmes_map() -> None:
    listed = {link.partition("#")[0] for link in page("README.md").links}
    assert {str(one) for one in PAGES if one.path.parent == ROOT / "docs"} <= listed


# --- commands ------------------------------------------------------------------------------


@each_page
def test_each_command_in_a_terminal_can_be_typed(doc: Page) -> None:
    for command in doc.typed:
        check_variables(doc, command)
        words = command.of_manage
        if words is not None:
            check_manage(doc, words)
        elif command.words[:1] == ["make"]:
            check_make(doc, command.words[1:])
        elif command.words[:1] == [".venv/bin/python"]:
            check_module(doc, command.words[1:])
        elif command.words:
            assert command.words[0] in FOREIGN, f"{doc}: {command.words}"
        for word in command.words:
            if word.startswith(FOLDERS):
                assert (ROOT / word).exists(), f"{doc}: {word}"


def check_variables(doc: Page, command: Typed) -> None:
    known = {*variables(), *MLFLOW_VARIABLES, *(f"{name}_FILE" for name in secrets()), "TOKEN"}
    assert set(command.variables) <= known, f"{doc}: {command.variables}"


def check_manage(doc: Page, words: list[str]) -> None:
    """Let the command's own parser read the words."""
    try:
        parser_of(words[0]).parse_args(words[1:])
    except (CommandError, KeyError) as error:
        pytest.fail(f"{doc}: manage.py {' '.join(words)}: {error!r}")
    for word in words:  # the parser takes a beginning of an option for it
        if word.startswith("--"):
            assert word.partition("=")[0] in options_of(words[0]), f"{doc}: {word}"


def check_make(doc: Page, words: list[str]) -> None:
    for word in words:
        name, is_variable, _ = word.partition("=")
        known = variables() if is_variable else make_targets()
        assert name in known, f"{doc}: make {word}"


def check_module(doc: Page, words: list[str]) -> None:
    """Check ``python -m MODULE --option``: the module is there, and has the option."""
    assert words[0] == "-m", f"{doc}: {words}"
    found = importlib.util.find_spec(words[1])
    assert found is not None, f"{doc}: {words[1]}"
    if words[1] == "pytest":
        return
    main = importlib.util.find_spec(f"{words[1]}.__main__")
    source = Path(str((main or found).origin)).read_text()
    for word in words[2:]:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{doc}: {words}"


@each_page
def test_each_command_in_a_sentence_is_there_with_its_options(doc: Page) -> None:
    for code in doc.codes:
        words = code.split()
        if words[:1] == ["make"] and len(words) > 1:
            check_make(doc, words[1:])
        if words[:1] != ["manage.py"] or words[1:2] in ([], ["COMMAND"]):
            continue
        assert words[1] in get_commands(), f"{doc}: {code}"
        for option in (word for word in words if word.startswith("--")):
            assert option in options_of(words[1]), f"{doc}: {code}"


@each_page
def test_each_option_in_a_sentence_is_some_commands(doc: Page) -> None:
    known = {option for command in own_commands() for option in options_of(command)}
    known |= FOREIGN_OPTIONS
    for code in doc.codes:
        option = code.split()[0]
        if option.startswith("--"):
            assert option in known, f"{doc}: {code}"


def test_the_table_of_commands_has_each_command_with_options_of_its_own() -> None:
    listed = set()
    for command, meaning in page("docs/operations.md").rows("Commands"):
        name = command.strip("`").split()[1]
        listed.add(name)
        for option in re.findall(r"`(--[a-z-]+)", command + meaning):
            assert option in options_of(name), f"{name}: {option}"
    assert listed == own_commands()


def test_a_developer_finds_each_target_of_make() -> None:
    told = " ".join(line for one in PAGES for line in [*one.terminal, *one.codes])
    for name, rest in make_targets().items():
        if " ## " in rest and name not in {"help", "clean"}:
            assert re.search(rf"\bmake {name}\b", told), name


# --- variables -----------------------------------------------------------------------------


def secrets() -> set[str]:
    """Return the variables that are also read from a file."""
    return {name for name, is_secret in variables().items() if is_secret}


def test_the_table_of_variables_has_those_that_are_read() -> None:
    listed = {
        name: bool(secret)
        for row in page("docs/operations.md").rows("Variables")
        for name, secret in re.findall(r"`([A-Z0-9_]+)`( †)?", row[0])
    }
    assert listed == variables()


@each_page
def test_each_variable_in_a_sentence_is_read(doc: Page) -> None:
    known = {*variables(), *MLFLOW_VARIABLES, *(f"{name}_FILE" for name in secrets())}
    for code in doc.codes:
        if re.fullmatch(r"(BULKHEAD|MLFLOW|DATABASE|AWS)_[A-Z0-9_]+", code):
            assert code in known, f"{doc}: {code}"


# --- code ----------------------------------------------------------------------------------


@each_page
def test_each_block_of_code_can_be_read(doc: Page) -> None:
    for block in doc.blocks:
        try:
            if block.language == "python":
                compile(block.text, str(doc), "exec", flags=ast.PyCF_ONLY_AST)
            elif block.language == "json":
                json.loads(block.text)
            elif block.language == "yaml":
                yaml.safe_load(block.text)
            else:
                assert block.language in {"console", "mermaid", "sql"}, f"{doc}: {block.text}"
        except (SyntaxError, ValueError, yaml.YAMLError) as error:
            pytest.fail(f"{doc}: {error}\n{block.text}")


def test_the_json_examples_can_be_imported() -> None:
    blocks = [block for block in page("docs/admins.md").blocks if block.language == "json"]
    assert len(blocks) == 3
    for block in blocks:
        assert json_document.parse(block.text.encode())


def test_the_yaml_example_of_team_rules_can_be_read() -> None:
    [rules] = [block for block in page("docs/mlflow.md").blocks if block.language == "yaml"]
    assert [rule.team for rule in team_rules.parse_rules(rules.text)] == [
        *("team_alpha", "team_gamma", "team_alpha", "team_rest")
    ]


def test_the_example_of_a_cluster_list_can_be_read(tmp_path: Path) -> None:
    listed = next(block for block in page("docs/kubernetes.md").blocks if block.language == "yaml")
    file = tmp_path / "clusters.yaml"
    file.write_text(listed.text)
    [cluster] = read_clusters(str(file))
    assert cluster.name == "production"


MISPLACED = """\
apiVersion: v1
kind: Namespace
metadata:
  name: tenant1
---
apiVersion: v1
kind: Pod
metadata:
  name: tenant1-pod
  namespace: tenant2
spec: {containers: []}
"""


def test_the_finding_is_what_the_check_prints(tmp_path: Path) -> None:
    [told] = re.findall(r"^stdin:.*$", page("docs/kubernetes.md").text, re.MULTILINE)
    file = tmp_path / "stdin"
    file.write_text(MISPLACED)
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("check_manifests", str(file), stdout=out)
    assert f"{file.parent}/{told}" in out.getvalue().splitlines()


# --- figures and lists that follow the code ------------------------------------------------


def test_the_bundle_has_as_many_objects_as_the_pages_say(world: World) -> None:
    made = bundle.render(bundle.team_of(world.alpha), django_settings.KUBERNETES)
    for one in ("docs/kubernetes.md", "CHANGELOG.md"):
        assert f"bundle of {len(made)} objects" in page(one).text


def test_the_table_of_checks_has_each_of_them() -> None:
    listed = {row[0].strip("`") for row in page("docs/isolation.md").rows("System checks")}
    assert listed == set(re.findall(r"bulkhead\.E\d+", (ROOT / "tenants/checks.py").read_text()))


def test_each_class_of_leaks_is_tried_where_the_table_says() -> None:
    table = page("docs/isolation.md").rows("Classes of leaks and their tests")
    assert [row[0] for row in table] == [f"L{number}" for number in LEAKS]
    for number, _, where in table:
        for name in re.findall(r"`(tests/\S+\.py)`", where):
            docstrings = docstrings_of(ROOT / name).values()
            assert any(re.search(rf"\b{number}\b", one) for one in docstrings), f"{number}: {name}"


def test_both_pages_about_mlflow_name_the_same_clients() -> None:
    told = {re.search(r"tests run (\S+) and (\S+)\.\s", page(name).text) for name in MLFLOW_PAGES}
    assert len({found.groups() for found in told if found}) == 1
    assert None not in told


MLFLOW_PAGES = ("README.md", "docs/mlflow.md")


@pytest.mark.parametrize("name", ["models", "isolation"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_readme_shows_each_picture_and_none_is_large(name: str, theme: str) -> None:
    picture = f"docs/pictures/{name}-{theme}.png"
    assert picture in page("README.md").links
    content = (ROOT / picture).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) <= MAX_PICTURE_BYTES


# --- commands that are run -----------------------------------------------------------------


def run(words: list[str]) -> str:
    """Run a command of manage.py and return what it prints."""
    out = StringIO()
    call_command(*words, stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, as an operator who has set what the commands read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BULKHEAD_PASSWORD", "a long and unusual sentence")
    return tmp_path


def test_the_commands_for_platform_admins_work_one_after_the_other(db: None, desk: Path) -> None:
    versions = [{"source": f"s3://bucket/{number}"} for number in (1, 2, 3)]
    models: list[Any] = ["model6", "model5", {"name": "model4", "versions": versions}]
    (desk / "models.json").write_text(json.dumps({"team_gamma": models}))
    make_user("gina")
    told = page("docs/admins.md")
    made = ""
    for words in (command.of_manage for command in told.typed):
        if words is None:
            continue
        if words[0] == "createsuperuser":
            words = [*words, "--no-input"]
        elif words[0] == "create_token" and "gina" in words:
            run(["add_member", "team_gamma", "gina", "--role", "contributor"])
        elif words[0] == "revoke_token":
            assert len(words[1]) == PREFIX_CHARS
            words = [words[0], made]
        printed = run(words)
        if words[0] == "create_token":
            made = printed[:PREFIX_CHARS]
        elif words[:2] == ["list_models", "--team"]:
            assert printed in told.text
    assert ApiToken.objects.exclude(revoked_at=None).count() == 1
    assert Membership.objects.get(user__username="dana").reason == "Ticket 4711"
    assert Tenant.objects.get(slug="team_gamma").size == "medium"


#: Commands of other pages that change nothing outside the database and an empty folder.
HARMLESS = {"check", "collect_garbage", "list_groups", "list_models", "tenant_manifests"}


def test_what_is_harmless_is_run(world: World, desk: Path) -> None:
    Authority(desk).file.rename(desk / "webhook-ca.crt")
    ran = set()
    for doc in PAGES:
        for command in doc.typed:
            words = command.of_manage or [""]
            if words[0] in HARMLESS:
                run(words)
                ran.add(words[0])
    assert ran == HARMLESS
