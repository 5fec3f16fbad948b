"""The WSGI application that granian (or any other WSGI server) serves."""

import io
import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bulkhead.settings")
application = get_wsgi_application()

# With a hole in a wall nothing is served: a privileged role, a table without its policies.
call_command("check", databases=["default"], stdout=io.StringIO())
