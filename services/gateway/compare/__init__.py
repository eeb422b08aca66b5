"""One question to several models, their answers side by side and compared by one more."""
