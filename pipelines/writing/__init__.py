"""From sampled pen strokes to a judged, laid out and drawn page."""
