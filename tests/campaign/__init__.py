"""The fault campaign: real workers, a real broker and a real store, and faults injected into each of them.

    python -m tests.campaign [--quick] [--only FAULT] [--seed S] [--trials N] [--jobs N] [--out FILE.json]

Each fault is a class in `faults/` with a name, a number of trials, a gate and `run`. A trial is one job or one
injected fault. Each trial has its own seed, which is printed if the trial fails. `--only FAULT --seed S --trials 1`
repeats that trial. The campaign computes the expected answer of a job serially in its own process. It reads from a
trace how often each step ran. It consumes the callback messages itself, in a process that no fault kills.

trial_job.py         one job, and the result of its trial      site.py      the servers and the workers
fault.py             a fault, and its row in the table         workers.py   workers that are replaced when they die
table.py             the table, and its record in JSON         calls.py     the callbacks that arrived
app.py               the app of workers and caller             wire.py      proxy before the broker: cuts connections
fault_injection.py   the faults injected inside a worker       gateway.py   proxy before the store: fails requests
kill_point.py        the call at which a worker dies           trace.py     the steps that ran, where and when
data_tasks.py        the tasks that read in place and write to sinks
worker_without_tasks.py   the app of a worker that lacks the tasks
"""
