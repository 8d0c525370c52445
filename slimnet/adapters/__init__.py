"""Callbacks for other people's trainers, a file a library: `slimnet.adapters.lightning`, `slimnet.adapters.transformers`."""
