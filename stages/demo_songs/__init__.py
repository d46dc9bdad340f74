"""`mixstyle demo-songs`: renders the songs of the demo."""
