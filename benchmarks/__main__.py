"""`python -m benchmarks` is the command line."""

if __name__ == "__main__":
    try:
        from .command import bench
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: pip install --group bench") from error
    bench(prog_name="python -m benchmarks")
