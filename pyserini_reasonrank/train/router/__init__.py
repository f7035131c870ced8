"""Train the router of the `route` combination from runs."""
