"""Write docs/options.md: `python -m ddfpipe.config.document > docs/options.md`."""

from __future__ import annotations

from .describe import options_markdown

if __name__ == "__main__":
    print(options_markdown(), end="")
