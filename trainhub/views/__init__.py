"""Pages: parse, authorise, delegate."""
