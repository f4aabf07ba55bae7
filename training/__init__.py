"""How the demonstration models were made and measured. Part of the repository, not of the installed package."""
