"""`python -m checkpoints_conversion to-megatron | to-hf` is `redone convert ...`."""

import sys

from megatron_redone.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
