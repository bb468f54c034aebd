"""What every test may use: fixtures are registered here and live in modules of their own."""

pytest_plugins = ["hadoop"]
