"""Write the pages of options.

`python -m ddfpipe.config.document > docs/options.md`, and the same with the word `quality` for
docs/quality-options.md.
"""

from __future__ import annotations

import sys

from .describe import options_markdown, quality_markdown

if __name__ == "__main__":
    print(quality_markdown() if sys.argv[1:] == ["quality"] else options_markdown(), end="")
