"""The panel's JSON API: typed, session cookie and CSRF token, all data over gRPC."""
