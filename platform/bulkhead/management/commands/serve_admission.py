"""``manage.py serve_admission``: the admission webhook, on a private listener of its own.

It is never part of the site: whoever may ask it may find out what each team has. So either callers
show a certificate (``--client-ca``), or nobody else can reach the listener.
"""

import os
import signal
from pathlib import Path
from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand, CommandParser

from bulkhead.management.commands.serve import claim_port, leave, load, make_server
from tenants.dns import is_loopback

APPLICATION = "bulkhead.admission_wsgi:application"


class Command(BaseCommand):
    """Serve the admission webhook."""

    help = "Answer API servers that ask whether a workload may use the model that it names."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Take where to listen, and whom to answer."""
        parser.add_argument(
            "--bind", default="127.0.0.1:8443", metavar="HOST:PORT", help="(127.0.0.1:8443)"
        )
        parser.add_argument("--cert", required=True, help="our certificate and its chain, in PEM")
        parser.add_argument("--key", required=True, help="the certificate's key, in PEM")
        parser.add_argument(
            "--client-ca",
            help="answer those alone who show a certificate of this CA: one that signs for API "
            "servers and nobody else",
        )
        parser.add_argument(
            "--private-network",
            action="store_true",
            help="without --client-ca: I say that nobody but API servers can reach this address",
        )
        parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse, or serve until told to stop."""
        host, port = address(options["bind"])
        if options["workers"] < 1:
            raise CommandError("--workers: at least one is needed.")
        authority = options["client_ca"]
        if not (authority or options["private_network"] or is_loopback(host)):
            raise CommandError(
                f"Anybody who reaches {host} could ask which models each team has. Let callers "
                "show a certificate (--client-ca), or say that the network is private "
                "(--private-network): nobody but the API server may reach it."
            )
        tls: dict[str, Any] = {"ssl_cert": readable("--cert", options["cert"])}
        tls["ssl_key"] = readable("--key", options["key"])
        if authority:
            tls |= {"ssl_ca": readable("--client-ca", authority), "ssl_client_verify": True}
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, leave)
        claim_port(host, port)
        os.environ["DJANGO_SETTINGS_MODULE"] = "bulkhead.admission_settings"  # of the workers
        try:
            server = make_server(host, port, options["workers"], application=APPLICATION, **tls)
        except OSError as error:  # ssl's errors are
            raise CommandError(f"Certificate and key are of no use: {error}") from None
        who = "who show a certificate" if authority else "who can reach it"
        self.stdout.write(f"Answering API servers {who}, at https://{options['bind']}")
        self.stdout.flush()
        server.serve(target_loader=load)


def address(bind: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` or ``[::1]:8443``; raises CommandError."""
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal() or len(port) > 5:
        raise CommandError(f"--bind {bind} is no HOST:PORT.")
    return host.removeprefix("[").removesuffix("]"), int(port)


def readable(option: str, path: str) -> Path:
    """Return the file; raises CommandError if it cannot be read."""
    file = Path(path)
    try:
        with file.open("rb"):
            return file
    except OSError as error:
        raise CommandError(f"{option} {path} cannot be read: {error.strerror}.") from None
