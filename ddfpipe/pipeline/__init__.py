"""Orchestration: stages, the recipe, run state.  Reads like the manual; no arithmetic."""
