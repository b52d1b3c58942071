"""What plugins of the task are tried in by the conformance kit, and its suites."""
