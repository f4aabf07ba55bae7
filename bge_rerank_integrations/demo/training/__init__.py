"""How the demonstration model was made and measured: text sources, training, evaluation set, evaluation."""
