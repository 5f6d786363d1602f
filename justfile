# just --list shows these; each is one line. What works on data works in the folder it is called in.

set positional-arguments
set shell := ["bash", "-cu"]

# install for work on emseg itself
setup:
    pip install -c constraints.txt -e ".[dev]"

# the test suite
test *arguments:
    pytest "$@"

# style and obvious mistakes
lint:
    ruff format --check . && ruff check .

# all benchmarks that need no data, small
bench:
    for script in $(grep -L required=True benchmarks/*.py); do python "$script" --quick || exit 1; done

# end to end on a synthetic volume
[no-cd]
demo:
    emseg demo

# the curves and image panels of an experiment
[no-cd]
tensorboard name *arguments:
    tensorboard --logdir "outputs/$1" "${@:2}"

# train a tutorial
[no-cd]
train config *overrides:
    emseg --config "$@"

# infer, decode and evaluate
[no-cd]
eval config checkpoint *overrides:
    emseg --mode test --config "$1" --checkpoint "${@:2}"

# search the decoder's arguments
[no-cd]
tune config checkpoint *overrides:
    emseg --mode tune --config "$1" --checkpoint "${@:2}"
