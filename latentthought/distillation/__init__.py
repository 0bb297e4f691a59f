"""Where what a student learns from comes from: teachers, their states kept on disk, their answers."""
