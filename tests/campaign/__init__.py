"""The campaign: real workers, a real broker and a real store are hurt in every way we could think of.

    python -m tests.campaign [--quick] [--only FAULT] [--seed S] [--trials N] [--jobs N] [--out FILE.json]

Each fault is a class in `faults/` with a name, a number of trials, a gate and `run`. A trial is one job, or one blow:
it has a seed of its own, printed when something goes wrong, and `--only FAULT --seed S --trials 1` does that trial
again. The answer that is expected of a job is computed here, serially; how often its steps ran is read from the trace
they leave; what it told its callback is consumed here, where nothing is killed.

errand.py     one job, and the verdict on it            site.py       the servers, and the crew of workers
fault.py      what a fault is; its row in the table     crew.py       workers that are replaced as they die
table.py      the table, and its record in JSON         calls.py      what the callbacks were told
app.py        the app of workers and caller             wire.py       between clients and broker; cuts connections
sabotage.py   what is done to a worker from inside      gateway.py    between clients and store; loses requests
trap.py       where a worker is to die                  trace.py      which steps ran, where and when
"""
