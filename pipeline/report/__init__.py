"""plan.json + artefacts → results.csv and one self-contained report.html."""

from pipeline.report.page import main, write_report

__all__ = ["main", "write_report"]
