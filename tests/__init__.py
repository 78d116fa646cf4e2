"""The tests; directories mirror `omniroute/`."""
