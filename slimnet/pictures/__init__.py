"""Pictures: opened, turned upright, brought to a size and to 8 bits a channel, drawn on, encoded. No torch."""

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"},
)
"""What a file in a folder must end in to be taken for a picture; a file that is named is tried whatever it ends in."""
