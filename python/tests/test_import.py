"""The client works where neither torch nor numpy is installed."""

import subprocess
import sys
import textwrap


def run(code):
    blocker = """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("torch", "numpy", "safetensors"):
                    raise ImportError(f"{name} is blocked")

        sys.meta_path.insert(0, Blocker())
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(blocker) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
    )


def test_control_needs_no_torch(tmp_path):
    result = run(f"""
        from convergd import Control, Decision
        assert Control({str(tmp_path)!r}).poll(1) == Decision()
        assert "torch" not in sys.modules
    """)
    assert result.returncode == 0, result.stderr


def test_what_needs_torch_says_so():
    result = run("from convergd import InteractionPenalty")
    assert result.returncode != 0
    assert "torch is blocked" in result.stderr


def test_the_losses_need_torch_and_do_not_take_its_name():
    result = run("import convergd.torch")
    assert result.returncode != 0
    assert "torch is blocked" in result.stderr

    import torch

    import convergd.torch

    assert torch.Tensor.__module__ == "torch" and convergd.torch is not torch
    for name in convergd.torch.__all__:
        assert getattr(convergd.torch, name).__name__ == name


def test_every_public_name_can_be_imported():
    import convergd

    for name in convergd.__all__:
        assert getattr(convergd, name).__name__ == name
    assert set(convergd.__all__) <= set(dir(convergd))


def test_an_unknown_name_is_an_attribute_error():
    import pytest

    import convergd

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = convergd.no_such_name


def test_without_torch_there_is_one_process(tmp_path):
    result = run(f"""
        import convergd
        for name in list(sys.modules):
            assert not name.startswith("torch")

        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "torch":
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name="torch")

        sys.meta_path[0] = Missing()
        control = convergd.Control({str(tmp_path)!r}, distributed=True)
        assert control.ranks is None and control.rank == 0
        assert control.poll(1) == convergd.Decision()
        control.done()
    """)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "done-target").exists()


def test_the_modules_are_there_by_their_names():
    code = """
        import convergd
        assert convergd.torch.InteractionLoss.__module__ == "convergd.torch.interaction"
        assert convergd.loss.InteractionPenalty is convergd.InteractionPenalty
        for name, least in (("lightning", "ConvergenceStopping"),
                            ("transformers", "ConvergenceCallback")):
            try:
                module = getattr(convergd, name)
            except ImportError as error:
                assert "pip install" in str(error), error
            else:
                assert hasattr(module, least)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "torch is blocked" in run("import convergd; convergd.loss").stderr
