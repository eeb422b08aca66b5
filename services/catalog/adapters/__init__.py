"""Where the catalog meets SQL, the price package and the cipher."""
