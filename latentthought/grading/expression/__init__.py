"""From the text of an answer to its tree: nodes, tokens, parser."""
