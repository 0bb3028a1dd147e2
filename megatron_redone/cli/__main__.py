"""`python -m megatron_redone.cli` is `redone`."""

import sys

from megatron_redone.cli.main import main

sys.exit(main())
