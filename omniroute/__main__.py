"""`python -m omniroute` is the `omniroute` command."""

from omniroute.cli import main

main()
