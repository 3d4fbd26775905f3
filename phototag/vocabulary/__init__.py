"""The words that can be tags, and the rules that turn scores into tags. Pure."""
