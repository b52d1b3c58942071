"""What the tests of all distributions share."""

pytest_plugins = ["tests.fixtures.projects", "tests.fixtures.workshop", "tests.fixtures.faults"]
