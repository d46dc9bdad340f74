"""What commands share: settings, progress, files that are shipped."""
