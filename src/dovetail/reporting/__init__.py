"""All that is known of a model, put together for one page."""
