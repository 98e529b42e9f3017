"""The commands of documents, as the installation from them reads them."""

from __future__ import annotations

import pytest

from stack import cache
from tests.install import documents

TEXT = """\
# One

```console
$ first --flag
what it says
$ second 'a \\
    b' # why
```

```yaml
$: no command
```

## Below

```console
$ third &
```

# None

Words, and `$ code`.
"""


@pytest.mark.parametrize(
    ("heading", "expected"),
    [("One", ["first --flag", "second 'a \\\n    b' # why"]), ("Below", ["third &"])],
)
def test_commands_are_those_below_their_heading(heading: str, expected: list[str]) -> None:
    assert documents.commands(TEXT, heading) == expected


@pytest.mark.parametrize("heading", ["None", "Nowhere", "Belo"])
def test_nothing_to_type_is_an_error(heading: str) -> None:
    with pytest.raises(LookupError, match=heading):
        documents.commands(TEXT, heading)


def test_the_readme_installs_as_the_document_about_it_does() -> None:
    readme = documents.read(cache.REPOSITORY / "README.md", "Install it")
    install = documents.read(cache.REPOSITORY / "docs" / "install.md", "KubeRay", "Images", "The operator")
    told = {command.partition(" #")[0].strip() for command in install}
    assert told - set(readme) == {"helm test modelset-operator --namespace modelset-system"}
    assert set(readme) <= told
