"""Station and array responses."""
