"""One command as several processes: how they were started, and what they do together."""
