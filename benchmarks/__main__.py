"""`python -m benchmarks` is the command line."""

from .command import bench

if __name__ == "__main__":
    bench(prog_name="python -m benchmarks")
