"""The only code that writes rows. Each action is one transaction and announces after its commit."""
