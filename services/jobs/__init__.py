"""Work that outlives a request: what is to be run, by whom it is being run, what came of it."""
