"""`python -m convcast`, which is also what torchrun starts."""

from convcast.cli.main import run

if __name__ == "__main__":
    run()
