"""Forms about people and teams."""

from django import forms

from tenants.models import Role

THEMES = ("system", "light", "dark")


class ThemeForm(forms.Form):
    """Which colours the pages have."""

    theme = forms.ChoiceField(choices=[(theme, theme) for theme in THEMES])


class MemberForm(forms.Form):
    """A change of one member: another role, or out."""

    user = forms.IntegerField(min_value=1)
    role = forms.ChoiceField(choices=[*Role.choices, ("remove", "Remove")])
