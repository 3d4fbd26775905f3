"""Print the tags of an image that a program holds in memory: python examples/tag_bytes.py < photo.jpg."""

import sys

from phototag import Session

with Session() as session:
    print(*(tag.name for tag in session.tag(sys.stdin.buffer.read()).tags), sep="\n")
