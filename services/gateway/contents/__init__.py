"""What of prompts and answers is kept, where operator and owner of the key want it."""
