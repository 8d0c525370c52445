"""The command line, a file a command."""

import pytest

pytest.register_assert_rewrite("cli.cases")
