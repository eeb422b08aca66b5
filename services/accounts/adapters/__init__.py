"""Where the service meets PostgreSQL, Argon2 and the wire format; nothing is decided here."""
