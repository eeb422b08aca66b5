"""The control panel: a web page and its JSON API. It holds no state of its own."""
