"""Installing: what runs once, as root, to make a service of mjrelay."""
