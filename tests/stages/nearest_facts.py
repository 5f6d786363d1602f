"""What a prediction of the three nearest edges says of itself."""

FACTS = {
    "format_version": 1,
    "fingerprint": "of the prediction",
    "kind": "prediction",
    "channels": ["1-0-0", "0-1-0", "0-0-1"],
    "offsets": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "edge_side": "destination",
    "step": 5,
}
