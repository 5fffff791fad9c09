"""What is remembered of earlier frames: source views, samples to replay and to rehearse."""
