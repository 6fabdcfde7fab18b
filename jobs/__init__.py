"""What binds time and processes to the core: the command line, the supervisor, the scheduler.

``__main__`` the commands · ``execute`` one run in this process · ``supervisor`` takes queued runs and executes
each in a child process · ``scheduler`` the clock that wakes it · ``sandbox`` the stand-ins as a child ·
``follow`` a run's progress on a terminal · ``api`` HTTP handlers.
"""
