"""`python -m pipeline.report --root ROOT --sweep NAME`."""

from pipeline.report.page import main

main()
