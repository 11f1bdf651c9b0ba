"""A task as its class declares it, checked: which step takes which parameter, and what the input must be."""
