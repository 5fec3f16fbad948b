"""``manage.py serve``: one command up, one signal down, and nothing lost in between.

Real servers, each with a data folder and a port of its own.
"""

import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support.servers import DEMO_PASSWORD, Serve, manage_in
from tests.support.waiting import wait_until


def test_ctrl_c_stops_everything(serve: Serve) -> None:
    server = serve()
    server.wait_until_ready()
    assert server.get("/healthz") == b'{"status": "ok"}'
    style = re.search(rb'href="(/static/app\.[0-9a-f]+\.css)"', server.get("/sign-in/"))
    assert style is not None
    assert server.get(style[1].decode())
    server.signal(signal.SIGINT, group=True)
    assert server.process.wait(120) == 0
    assert server.is_gone()
    assert "Traceback" not in server.printed
    assert "rror" not in server.printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_main_process_stops_everything(
    serve: Serve, number: signal.Signals
) -> None:
    server = serve()
    server.wait_until_ready()
    server.signal(number, group=False)
    assert server.process.wait(120) == 0
    assert server.is_gone()
    assert "Traceback" not in server.printed


def test_stopped_while_it_starts(serve: Serve) -> None:
    server = serve()
    wait_until(lambda: (server.data_dir / "postgres").exists())
    server.signal(signal.SIGINT, group=True)
    assert server.process.wait(120) == 0
    assert server.is_gone()
    assert server.printed == ""


@pytest.mark.parametrize("group", [True, False], ids=["all of it", "the main process"])
def test_killed_it_starts_again_and_has_lost_nothing(serve: Serve, group: bool) -> None:
    killed = serve()
    killed.wait_until_ready()
    made = manage_in(
        killed.data_dir,
        "shell",
        "-c",
        "from tenants.models import User; User.objects.create_user('kept')",
    )
    assert made.returncode == 0, made.stderr
    assert killed.get("/healthz")  # the command shared the server's database and left it running
    killed.signal(signal.SIGKILL, group=group)
    again = serve(port=killed.port)
    again.wait_until_ready()
    counted = manage_in(
        again.data_dir,
        "shell",
        "-c",
        "from tenants.models import User; print(User.objects.filter(username='kept').count())",
    )
    assert counted.stdout.splitlines()[-1] == "1"
    again.signal(signal.SIGTERM, group=False)
    assert again.process.wait(120) == 0
    assert again.is_gone()


def test_a_taken_port_is_refused_in_a_sentence_before_anything_starts(
    serve: Serve, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = serve(port=taken.getsockname()[1])
        assert server.process.wait(120) == 1
    assert re.fullmatch(r"CommandError: Port \d+ of 127\.0\.0\.1 is taken.*\.\n", server.printed)
    assert not (server.data_dir / "postgres").exists()


def test_the_demo_prints_its_address_and_its_sign_ins_once_it_answers(serve: Serve) -> None:
    server = serve("--demo")
    server.wait_until_ready()
    assert f"http://127.0.0.1:{server.port}" in server.printed
    assert DEMO_PASSWORD in server.printed
    listed = manage_in(server.data_dir, "list_models", "--team", "team_gamma")
    assert listed.stdout == "['model4', 'model5', 'model6']\n"
