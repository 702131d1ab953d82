"""The built-in plugins, one room a kind; each is named by an entry point, as a stranger's is."""

import cbs_core  # noqa: F401  (first of all: it keeps libraries from calling home)
