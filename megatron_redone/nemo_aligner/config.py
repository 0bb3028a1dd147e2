"""Settings of the NeMo-Aligner backend, and its YAML keys to and from ours. Imports no torch."""
