"""A command that prints text to an output that is not UTF-8, and then cannot read any, for a test."""

import sys

from electra_keras.console import run_main


def main():
    print("\u65e5\u00e4", "\ud800")
    b"\xff".decode("utf-8")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="latin-1", errors="strict")
    run_main(main)
