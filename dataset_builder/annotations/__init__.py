"""Annotation files of target sets → samples: one small module per format, and the table of them (formats.py)."""
