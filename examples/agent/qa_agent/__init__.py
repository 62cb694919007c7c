"""A small agent that heals red test suites: it finds bugs, says what and where they are, patches, verifies and deploys."""
