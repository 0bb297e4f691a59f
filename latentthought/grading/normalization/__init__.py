"""One plain form for every way of writing an answer; numbers and units out of it."""
