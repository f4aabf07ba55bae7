"""How the demonstration models were made and measured: text sources, training, evaluation set, evaluation."""
