"""The studio's own widgets: of each a module, a script and a style, by one name. The player's lie in assets/player."""
