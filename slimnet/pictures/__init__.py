"""Pictures: opened, turned upright, brought to a size and to 8 bits a channel, drawn on, encoded. No torch."""
