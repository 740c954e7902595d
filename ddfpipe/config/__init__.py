"""Typed configuration: options, their reader, and what they say about themselves."""

from .describe import describe_options, options_markdown
from .export import dump, effective, flat_name
from .load import load_config, read_files
from .machine import available_memory, cpu_count
from .model import SECTIONS, Config, all_options

__all__ = [
    "SECTIONS",
    "Config",
    "all_options",
    "available_memory",
    "cpu_count",
    "describe_options",
    "dump",
    "effective",
    "flat_name",
    "load_config",
    "options_markdown",
    "read_files",
]
