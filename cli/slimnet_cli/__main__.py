"""``python -m slimnet_cli``, for ``torchrun``."""

from slimnet_cli import main

main()
