"""Where files of Trough are that nobody named. Imports nothing: short commands read it, too."""

#: The settings file.
SETTINGS_FILE = "/etc/trough/settings.yml"
