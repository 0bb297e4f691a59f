"""One run that walks all stages of a curriculum, survives being killed, and reports what it does."""
