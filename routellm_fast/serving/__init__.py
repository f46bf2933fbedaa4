"""Routers behind a server: clients, and what runs on the server's side."""
