"""What a thought is, in tensors alone: how much of it (schedule), how mixed in (mixing), at what size (scale), where (layout)."""
