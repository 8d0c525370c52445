"""One file a data set: where it lies, how it is read."""
