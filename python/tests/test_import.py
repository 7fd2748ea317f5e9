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
