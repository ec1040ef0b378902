"""{{ cookiecutter.summary }}."""
