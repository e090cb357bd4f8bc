"""How long a test waits for what it started: only what hangs takes as long, however busy the machine."""

PATIENCE_S = 600.0
