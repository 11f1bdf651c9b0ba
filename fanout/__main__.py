"""`python -m fanout` is the command `fanout`."""

from .cli import main

main()
