"""RouteLLM's `sw_ranking`: battles on similar prompts count more in a refit of the models' ratings."""
