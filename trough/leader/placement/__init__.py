"""Which worker keeps a copy of which segment: functions of values, without I/O."""
