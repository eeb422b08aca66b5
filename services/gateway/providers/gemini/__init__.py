"""Google's Gemini API: requests in, events out."""
