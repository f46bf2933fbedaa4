"""From a user's own traffic to a router of their own: which prompts to label, by whom, what to learn, and the proof."""
