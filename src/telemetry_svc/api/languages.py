"""Which of our two languages a reader wants (RFC 9110, Accept-Language); English where he does not say."""

from telemetry_svc.policies import Language

_OURS: dict[str, Language] = {"en": "en", "zh": "zh-CN", "*": "en"}


def chosen(accept_language: str | None) -> Language:
    """The best match of a header's value; what cannot be read counts for nothing."""
    best, best_weight = _OURS["*"], 0.0
    for part in (accept_language or "").split(","):
        tag, _, parameters = part.strip().partition(";")
        language, weight = _OURS.get(tag.strip().lower().partition("-")[0]), _weight(parameters)
        if language is not None and weight > best_weight:
            best, best_weight = language, weight
    return best


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if not name:
        return 1.0
    try:
        weight = float(value) if name.strip().lower() == "q" else 0.0
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
