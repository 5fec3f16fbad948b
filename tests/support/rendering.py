"""Jinja2 under the test client: each page that is rendered sends Django's signal, with its context.

Django's own templates do that under test; Jinja2's have ``template_class`` for such a need.
"""

from typing import Any

import jinja2
from bulkhead.jinja import environment
from django.test.signals import template_rendered


class WatchedTemplate(jinja2.Template):
    """A template that says that it is rendered, and with what."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        """Render, after telling the test client."""
        context = dict(*args, **kwargs)
        template_rendered.send(sender=self, template=self, context=context)
        return super().render(context)


def watched_environment(**options: Any) -> jinja2.Environment:
    """Return the environment of the pages, with templates that are watched."""
    made = environment(**options)
    made.template_class = WatchedTemplate
    return made
