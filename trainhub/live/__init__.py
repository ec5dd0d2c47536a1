"""From a stored row to every open page: hints, one hub a web process, one websocket a page."""
