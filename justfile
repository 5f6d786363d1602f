# just --list shows these; each is one line.

# install for work on emseg itself
setup:
    pip install -c constraints.txt -e ".[dev]"

# end to end on a synthetic volume
demo:
    python scripts/main.py demo

# the test suite
test *arguments:
    pytest {{arguments}}

# style and obvious mistakes
lint:
    ruff format --check . && ruff check .

# all benchmarks, small
bench:
    for script in benchmarks/*.py; do python "$script" --quick || exit 1; done

# the curves and image panels of an experiment
tensorboard name *arguments:
    tensorboard --logdir "{{invocation_directory()}}/outputs/{{name}}" {{arguments}}

# train a tutorial
train config *overrides:
    python scripts/main.py --config {{config}} {{overrides}}

# infer, decode and evaluate
eval config checkpoint *overrides:
    python scripts/main.py --config {{config}} --mode test --checkpoint {{checkpoint}} {{overrides}}

# search the decoder's arguments
tune config checkpoint *overrides:
    python scripts/main.py --config {{config}} --mode tune --checkpoint {{checkpoint}} {{overrides}}
