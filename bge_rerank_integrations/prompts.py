"""The publisher's prompts, by name."""

from __future__ import annotations

PROMPTS = {
    "answer_yes_no": (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
        "prediction of either 'Yes' or 'No'."
    ),
    "answer": "Predict whether passage B contains an answer to query A.",
    "same_meaning": "Predict whether passages A and B have the same meaning.",
    "same_question": "Predict whether queries A and B are asking the same thing.",
    "counterargument": "Predict whether argument A and counterargument B express contradictory opinions.",
}
"""The publisher's prompts by name: the default of llm and layerwise models, the default of lightweight models, and
three more from the lightweight model's card."""
