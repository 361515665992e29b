"""What leaves the machine: exports, cards, gates, publishing, verification."""
