"""Configuration: a TOML file in, frozen dataclasses out."""
