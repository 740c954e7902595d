"""The flux scale of a field from surveys at other frequencies: matching, measuring, fitting."""
