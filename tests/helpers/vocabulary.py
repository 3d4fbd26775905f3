"""A small tree of tags."""

from phototag.vocabulary.taxonomy import Taxonomy

HEADER = "id\tparent\tstate\tname\tthreshold\tsynonyms\tde\tfr"
TREE = f"""\
# animals
{HEADER}
n00000001\t-\ttag\tanimal\t-\t-\tTier\tanimal
n00000002\tn00000001\ttag\tdog\t-\thound|doggy\tHund\tchien
n00000010\tn00000002\ttag\tpug\t0.9\t-\tMops\t-
n00000011\tn00000002\trollup\tobscure hound\t-\t-\t-\t-
n00000012\tn00000001\ttag\ttoucan\t-\t-\tTukan\ttoucan
x-household\t-\trollup\thousehold thing\t-\t-\t-\t-
n00000013\tx-household\ttag\tlamp\t-\t-\tLampe\tlampe
n00000014\t-\tnever\tweb site\t-\t-\t-\t-
"""


def tree(text: str = TREE) -> Taxonomy:
    return Taxonomy.parse(text, "tree.tsv")
