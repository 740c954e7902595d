"""Command lines whose mistakes end like any other: one message and exit code 1."""

from __future__ import annotations

import argparse

from ddfpipe.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises ConfigError for wrong words."""

    def error(self, message: str):
        raise ConfigError(f"{message}; see --help")
