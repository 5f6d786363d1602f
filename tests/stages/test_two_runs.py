"""Two runs on one output: the first is in the middle of it when the second begins."""

import threading

from emseg.stages import prediction_parts


def test_the_second_is_refused_and_the_first_is_as_if_alone(experiment, monkeypatch, capsys):
    middle, may_go_on, codes = threading.Event(), threading.Event(), []
    predict = prediction_parts.predict_volume

    def stopping(*arguments, write, **named):
        def write_and_wait(start, array):
            write(start, array)
            middle.set()
            assert may_go_on.wait(120)

        return predict(*arguments, write=write_and_wait, **named)

    monkeypatch.setattr(prediction_parts, "predict_volume", stopping)
    first = threading.Thread(target=lambda: codes.append(experiment.emseg("infer")))
    first.start()
    assert middle.wait(120)
    said = []
    for mode in ("infer", "test"):
        capsys.readouterr()
        # With other settings too: it would put another prediction in the first one's place.
        codes.append(experiment.emseg(mode, "inference.window.blending=constant"))
        said.append(capsys.readouterr().err)
    may_go_on.set()
    first.join()
    assert codes == [2, 2, 0]
    for line in said:
        assert line.count("\n") == 1 and "--mode infer" in line and "test_im" in line
    path = experiment.results / "test_im_prediction.h5"
    beside = path.read_bytes()
    assert experiment.emseg("infer", "--force") == 0
    assert path.read_bytes() == beside
    names = {file.name for file in experiment.results.iterdir()}
    assert names == {"test_im_prediction.h5", "config.yaml"}
