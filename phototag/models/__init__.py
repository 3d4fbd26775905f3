"""The facts about models: found, read and checked without running them."""
