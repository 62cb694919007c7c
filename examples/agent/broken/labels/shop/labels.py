from shop import LABELS


def label(*kinds):
    return " ".join(LABELS[kind] for kind in kinds)
