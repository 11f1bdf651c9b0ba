"""How jobs are cut, stored and tried: settings of a process, options of a task or call."""
