"""Forms about people and teams."""

from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils.crypto import get_random_string

from tenants.identity import robots
from tenants.identity.tokens import DEFAULT_DAYS, MAX_NAME_CHARS
from tenants.models import ApiToken, Role

THEMES = ("system", "light", "dark")


class VerbForm(forms.Form):
    """A form whose errors may also come from a verb."""

    def add_verb_errors(self, error: ValidationError) -> None:
        """Show the verb's errors beside their fields, or above the form where there is none."""
        if not hasattr(error, "error_dict"):
            self.add_error(None, error)
            return
        for name, errors in error.error_dict.items():
            known = name if name in self.fields else None
            self.add_error(known, errors if name != NON_FIELD_ERRORS else list(errors))


class ThemeForm(forms.Form):
    """Which colours the pages have."""

    theme = forms.ChoiceField(choices=[(theme, theme) for theme in THEMES])


class MemberForm(forms.Form):
    """A change of one member: another role, or out."""

    user = forms.IntegerField(min_value=1)
    role = forms.ChoiceField(choices=[*Role.choices, ("remove", "Remove")])


def new_once() -> str:
    """Return a random id for a form, so that a form that is sent twice makes one token."""
    return get_random_string(64)


class SecretForm(VerbForm):
    """The fields of every form that makes a token."""

    scope = forms.ChoiceField(
        choices=[(ApiToken.Scope.READ, "Read"), (ApiToken.Scope.WRITE, "Read and write")]
    )
    days = forms.TypedChoiceField(
        label="Expires in",
        coerce=int,
        initial=DEFAULT_DAYS,
        choices=[(days, f"{days} days") for days in (30, 90, 180, 365)],
    )
    once = forms.CharField(max_length=64, initial=new_once, widget=forms.HiddenInput)


class TokenForm(SecretForm):
    """A new token of one's own."""

    field_order = ("name", "scope", "team", "days", "once")
    name = forms.CharField(
        max_length=MAX_NAME_CHARS,
        help_text="What will use it, such as “laptop”. The team that it is bound to sees it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    team = forms.ChoiceField(
        label="Opens", choices=[("this", "This team only"), ("any", "Any of my teams")]
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["scope"].help_text = (
            "Your role decides what it may do: with a viewer's token that writes, "
            "nothing can be written."
        )


class RobotForm(SecretForm):
    """A new robot with its first token."""

    field_order = ("name", "role", "scope", "days", "once")
    name = forms.CharField(
        max_length=40,
        help_text="Lower-case letters, digits, “-” and “_”, such as “ci”.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    role = forms.ChoiceField(
        choices=[(role, role.label) for role in robots.ROLES],
        help_text="It never manages members: a maintainer at most.",
    )
