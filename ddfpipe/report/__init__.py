"""Progress, status, previews and reports."""
