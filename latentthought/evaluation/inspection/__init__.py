"""A look inside the thoughts: of one prompt (`prompt`), and over a data set (`faithfulness`, `probing`)."""
