"""slimnet: make a CNN smaller and really faster."""
