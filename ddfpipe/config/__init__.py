"""Typed configuration: options, their reader, and what they say about themselves."""
