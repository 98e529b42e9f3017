"""What the end-to-end tests are written with: they touch the cluster only as a user would."""
