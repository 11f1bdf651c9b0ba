"""Tasks to read, run and start from; `README.md` says what each one shows."""
