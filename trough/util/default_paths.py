"""Default places of Trough's files. Imports nothing, since short commands read it."""

#: The settings file.
SETTINGS_FILE = "/etc/trough/settings.yml"
