"""Scene annotators: what a picture shows, in the convention that its ControlNet v1.1 was trained on."""
