"""RouteLLM's `causal_llm`: a language model that grades a prompt, and the win rate that its grades mean."""
