"""The words that tags come from, and how scores become tags. Pure."""
