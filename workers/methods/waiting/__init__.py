"""What a trainer does between its push and the server's answer."""
