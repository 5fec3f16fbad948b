"""The WSGI application that granian (or any other WSGI server) serves."""

import io
import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bulkhead.settings")
application = get_wsgi_application()

# Do not start if the isolation has a hole, such as a privileged role or a table without policies.
call_command("check", databases=["default"], stdout=io.StringIO())
