"""The registry's forms: they read what was typed; the verbs of registry.py check what it means."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from models_registry import validators
from models_registry.models import ModelVersion, RegisteredModel
from models_registry.queries import SORTS, ModelFilter
from tenants.forms import VerbForm
from tenants.isolation.scope import current_tenant_id
from tenants.models import Tenant


class PairsField(forms.CharField):
    """Names with values, a line each: ``name = value``; its value is a dict of texts."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        """Write a dict as lines."""
        if isinstance(value, Mapping):
            return "\n".join(f"{key} = {text}" for key, text in sorted(value.items()))
        return value

    def to_python(self, value: Any) -> Any:
        """Read lines as a dict; each line that is wrong is an error of its own."""
        pairs: dict[str, Any] = {}
        errors = []
        for number, line in enumerate((super().to_python(value) or "").splitlines(), 1):
            if not line.strip():
                continue
            key, equals, text = (part.strip() for part in line.partition("="))
            if not equals or not key:
                errors.append(f"Line {number}: write it as “name = value”.")
            elif key in pairs:
                errors.append(f"Line {number}: “{key}” stands there twice.")
            else:
                try:
                    pairs[key] = self.read(text)
                except ValueError:
                    errors.append(f"Line {number}: “{text}” is not a number.")
        if errors:
            raise ValidationError(errors)
        return pairs

    def read(self, text: str) -> Any:
        """Return the value that ``text`` stands for; raises ValueError."""
        return text

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare as text."""
        return super().has_changed(self.prepare_value(initial), data)


class NumbersField(PairsField):
    """Names with numbers, a line each; its value is a dict of floats."""

    def read(self, text: str) -> Any:
        """Return the finite number that ``text`` stands for."""
        value = float(text)
        if not math.isfinite(value):
            raise ValueError
        return value


class MarkdownField(forms.CharField):
    """A long text with line ends as people's editors write them."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:
        """Browsers send CRLF; the registry keeps LF."""
        return (super().to_python(value) or "").replace("\r\n", "\n")


class ModelTextForm(VerbForm):
    """What people write about a registered model."""

    description = forms.CharField(
        required=False,
        max_length=validators.MAX_DESCRIPTION_CHARS,
        help_text="One sentence that says what the model is for.",
    )
    tags = PairsField(
        required=False,
        help_text="One a line, such as framework = scikit-learn or task = ranking.",
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    card = MarkdownField(
        required=False,
        label="Model card",
        help_text="Markdown; it may begin with YAML front matter between two lines of ---.",
        widget=forms.Textarea(attrs={"rows": 16}),
        strip=False,
    )


class RegisterForm(ModelTextForm):
    """A new registered model."""

    field_order = ("name", "description", "tags", "card")
    name = forms.CharField(
        max_length=validators.MAX_NAME_CHARS,
        strip=False,
        help_text="Any text without / and :, unique in your team. Code refers to it.",
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off"}),
    )


class StampField(forms.DateTimeField):
    """When the row was changed last, as the editor saw it; microseconds are kept."""

    widget = forms.HiddenInput

    def prepare_value(self, value: Any) -> Any:
        """Write the whole time: the usual format would lose the microseconds."""
        return value.isoformat() if isinstance(value, datetime) else value


class EditForm(ModelTextForm):
    """A change of what is written about a model."""

    expected = StampField(required=False)

    @classmethod
    def of(cls, model: RegisteredModel) -> "EditForm":
        """Return the form filled with what stands there now."""
        return cls(
            initial={
                "description": model.description,
                "tags": model.tags,
                "card": model.card,
                "expected": model.updated_at,
            }
        )


class VersionTextForm(VerbForm):
    """What people write about a version."""

    description = forms.CharField(
        required=False,
        max_length=validators.MAX_DESCRIPTION_CHARS,
        help_text="What is different in this version.",
    )
    tags = PairsField(
        required=False, help_text="One a line.", widget=forms.Textarea(attrs={"rows": 3})
    )


class AddVersionForm(VersionTextForm):
    """A version added by hand; its files are at its source, or are uploaded next."""

    field_order = (
        "how",
        "source",
        "description",
        "metrics",
        "params",
        "tags",
        "run_id",
        "run_link",
    )
    how = forms.ChoiceField(
        required=False, choices=[("reference", "elsewhere"), ("upload", "on this computer")]
    )
    source = forms.CharField(
        required=False,
        max_length=validators.MAX_SOURCE_CHARS,
        help_text="Where the files are, such as s3://bucket/path.",
    )
    metrics = NumbersField(
        required=False,
        help_text="One a line, such as auc = 0.93.",
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    params = PairsField(
        required=False,
        label="Parameters",
        help_text="One a line, such as learning_rate = 0.1.",
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    run_id = forms.CharField(required=False, max_length=validators.MAX_RUN_ID_CHARS, label="Run ID")
    run_link = forms.URLField(
        required=False,
        max_length=validators.MAX_SOURCE_CHARS,
        assume_scheme="https",
        help_text="The run's page in your tracking server.",
    )

    def fields_of(self) -> dict[str, Any]:
        """Return what ``registry.add_version`` takes."""
        values = dict(self.cleaned_data)
        if values.pop("how") == "upload":
            values |= {"source": "", "status": ModelVersion.Status.PENDING}
        return values


class UploadForm(forms.Form):
    """A file for a version, and the folder of it that it goes to ('' for the top)."""

    chosen = forms.FileField(allow_empty_file=True)
    folder = forms.CharField(required=False, max_length=validators.MAX_PATH_CHARS)


class PathForm(forms.Form):
    """The path of a file or a folder of a version."""

    path = forms.CharField(max_length=validators.MAX_PATH_CHARS, strip=False)


class EditVersionForm(VersionTextForm):
    """A change of what is written about a version; a pending one gets its status by finishing."""

    status = forms.ChoiceField(
        choices=[
            (status, status.label)
            for status in (ModelVersion.Status.READY, ModelVersion.Status.FAILED)
        ]
    )
    expected = StampField(required=False)

    def __init__(self, *args: Any, pending: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if pending:
            del self.fields["status"]

    @classmethod
    def of(cls, version: ModelVersion, typed: QueryDict | None = None) -> "EditVersionForm":
        """Return the form filled with what was ``typed``, or with what stands there now."""
        return cls(
            typed,
            pending=version.status == ModelVersion.Status.PENDING,
            initial={
                "description": version.description,
                "tags": version.tags,
                "status": version.status,
                "expected": version.updated_at,
            },
        )


class RecallForm(VerbForm):
    """Why nothing may use a version any more."""

    reason = forms.CharField(
        max_length=validators.MAX_NOTE_CHARS,
        help_text="Your team reads it; whoever you share the model with only sees the recall.",
        widget=forms.Textarea(attrs={"rows": 3, "autofocus": True}),
    )


class AliasNameForm(VerbForm):
    """An alias, and the version that it pointed at when the page was made (nothing: none)."""

    alias = forms.CharField(max_length=validators.MAX_ALIAS_CHARS)
    expected = forms.IntegerField(required=False, widget=forms.HiddenInput)


class AliasForm(AliasNameForm):
    """A move of an alias to a version."""

    version = forms.IntegerField(min_value=1)


class DeleteForm(forms.Form):
    """Deleting for good: the name is typed by hand."""

    name = forms.CharField(
        strip=False, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    )

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_name(self) -> str:
        """Refuse another name than the one on the page."""
        name: str = self.cleaned_data["name"]
        # White space is not compared: nobody can type a line end into a text field.
        if name.split() != self.expected.split():
            raise ValidationError("This is not the name; nothing was deleted.")
        return name


#: Which models a list shows: the value in the URL, and its label.
SHOWS = [
    ("active", "Active"),
    ("prompts", "Prompts"),
    ("starred", "Starred by me"),
    ("archived", "Archived"),
    ("all", "All"),
]


class ShareForm(forms.Form):
    """Sharing with a team by its address, which nobody can guess: the team itself gives it out.

    By name, the form would tell which teams there are.
    """

    address = forms.UUIDField(
        label="The team's sharing address",
        help_text="Ask a member of that team: it stands on their page “Shared with us”.",
        error_messages={"invalid": "This is not a team's address; nothing was shared."},
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def clean_address(self) -> Tenant:
        """Return the team at that address; one's own is as wrong as none."""
        team = Tenant.objects.filter(pk=self.cleaned_data["address"]).first()
        if team is None or team.pk == current_tenant_id():
            raise ValidationError("No other team has this address; nothing was shared.")
        return team


class UnshareForm(forms.Form):
    """Taking a grant back, from a team or from a person."""

    team = forms.UUIDField(required=False)
    person = forms.IntegerField(required=False, min_value=1)


class FilterForm(forms.Form):
    """The model list's filters, as they stand in the URL."""

    q = forms.CharField(required=False, max_length=200)
    framework = forms.CharField(required=False, max_length=validators.MAX_TAG_VALUE_CHARS)
    task = forms.CharField(required=False, max_length=validators.MAX_TAG_VALUE_CHARS)
    owner = forms.CharField(required=False, max_length=150)
    alias = forms.CharField(required=False, max_length=validators.MAX_ALIAS_CHARS)
    tag = forms.CharField(required=False, max_length=validators.MAX_TAG_VALUE_CHARS)
    show = forms.ChoiceField(required=False, choices=SHOWS)
    sort = forms.ChoiceField(
        required=False, choices=[(word, label) for word, (label, _) in SORTS.items()]
    )
    after = forms.CharField(required=False, max_length=2000)

    def chosen(self) -> ModelFilter:
        """Return what was chosen; what is not understood counts as not given."""
        self.is_valid()
        given = {
            name: value for name, value in self.cleaned_data.items() if value and name != "after"
        }
        return ModelFilter(**given)
