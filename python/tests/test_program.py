"""The exported program is the model, whatever weights it is filled with."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from convergd import ExportError, export_program, image_split, save_checkpoint
from convergd.program import PREFIX


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6 * 9, 5)
        self.register_buffer("scratch", torch.ones(1), persistent=False)

    def forward(self, x):
        h = self.middle(self.low(x) * self.scratch)
        return self.last(self.drop(h.reshape(x.shape[0], -1)))


class Around(Net):
    """The input goes around `low`."""

    def forward(self, x):
        h = self.middle(self.low(x) + 0.1 * x)
        return self.last(h.flatten(1))


def export(model, directory, split="low", inputs=None):
    inputs = torch.rand(4, 1, 8, 8) if inputs is None else inputs
    return export_program(model, inputs, split=split, path=directory / "program.ts")


def train_a_little(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        inputs, labels = torch.randn(16, 1, 8, 8), torch.randint(5, (16,))
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


@torch.no_grad()
def largest_error(program, model, batch, shape=(1, 8, 8)):
    inputs = torch.randn(batch, *shape)
    wanted = model.eval()(inputs)
    return (program.head(program.features(inputs)) - wanted).abs().max().item()


@torch.no_grad()
def fill(program, checkpoint):
    """As the sidecar does it: by name, with the prefix, into parameters only."""
    parameters = dict(program.named_parameters())
    for name, tensor in checkpoint.items():
        parameters[PREFIX + name].copy_(tensor)


@pytest.mark.parametrize("split", ["low", "middle", "low.0", "middle.1", None])
def test_the_program_is_the_model_before_and_after_training(tmp_path, split):
    model = Net()
    program = torch.jit.load(export(model, tmp_path, split))
    assert largest_error(program, model, 5) < 1e-5
    train_a_little(model.train())
    assert largest_error(program, model, 5) > 1e-3, "the weights are still the old ones"
    fill(program, load_file(save_checkpoint(model, tmp_path / "checkpoints", 3)))
    for batch in (1, 2, 3, 7, 33):
        assert largest_error(program, model, batch) < 1e-5


def test_names_are_those_of_the_state_dict_behind_the_prefix(tmp_path):
    model = Net()
    program = torch.jit.load(export(model, tmp_path))
    names = {name for name, _ in program.named_parameters()}
    assert names == {"model." + name for name in model.state_dict()}
    assert "model.low.1.num_batches_tracked" in names
    assert not any(
        parameter.requires_grad
        for name, parameter in program.named_parameters()
        if "running" in name
    )


def test_the_file_describes_itself(tmp_path):
    meta = json.loads(torch.jit.load(export(Net(), tmp_path)).attach_meta())
    assert meta.pop("torch") == torch.__version__
    assert meta == {
        "format": 2,
        "split": "low",
        "prefix": "model.",
        "features_shape": [4, 8, 8],
        "input_shapes": [[1, 8, 8]],
        "inputs": ["inputs"],
        "classes": 5,
        "next_token": False,
        "aliases": [],
    }


def test_without_a_split_the_features_are_the_input(tmp_path):
    program = torch.jit.load(export(Net(), tmp_path, split=None))
    inputs = torch.randn(3, 1, 8, 8)
    assert torch.equal(program.features(inputs), inputs)
    assert json.loads(program.attach_meta())["split"] is None


def test_the_features_are_the_output_of_the_split(tmp_path):
    model = Net()
    program = torch.jit.load(export(model, tmp_path))
    inputs = torch.randn(3, 1, 8, 8)
    assert torch.allclose(program.features(inputs), model.eval().low(inputs), atol=1e-6)


def test_masked_features_change_what_the_head_says(tmp_path):
    model = Net()
    program = torch.jit.load(export(model, tmp_path))
    hidden = program.features(torch.randn(3, 1, 8, 8))
    hidden[:, :, :4] = 0
    with torch.no_grad():
        wanted = model.eval().last(model.middle(hidden).flatten(1))
    assert torch.allclose(program.head(hidden), wanted, atol=1e-6)


def test_the_model_of_the_caller_does_not_change(tmp_path):
    model = Net().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export(model, tmp_path)
    assert model.training and model.low[1].training
    assert "running_mean" in dict(model.low[1].named_buffers())
    assert not model.low._forward_hooks
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_path_around_the_split_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(ExportError, match=r"differ by .* skip connection .* `low`"):
        export(Around(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    export(Around(), tmp_path, split="middle")


def test_a_refused_export_leaves_the_file_that_was_there(tmp_path):
    path = export(Net(), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ExportError):
        export(Around(), tmp_path)
    assert path.read_bytes() == before


class Twice(Net):
    def forward(self, x):
        h = self.low(x)
        return self.last(self.middle(h + self.low(x)).flatten(1))


class Never(Net):
    def forward(self, x):
        return x.flatten(1)[:, :5]


class Baked(Net):
    """Knows the batch size of the example."""

    def forward(self, x):
        h = self.middle(self.low(x)).flatten(1)
        return self.last(h) * torch.arange(float(int(x.shape[0]))).sum()


class Constant(Net):
    """Reads a weight into a Python number, which a trace keeps for ever."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return super().forward(x) * float(self.scale)


class Pair(Net):
    def forward(self, x):
        logits = super().forward(x)
        return logits, logits


@pytest.mark.parametrize(
    ("model", "split", "message"),
    [
        (Net, "lower", "no submodule `lower`; at the top it has `low`, `middle`"),
        (Twice, "low", "runs 2 times"),
        (Never, "low", "does not run the submodule `low`"),
        (Baked, "low", "logits differ|size was baked in"),
        (Constant, "low", "with other weights .* turn a weight into a Python number"),
        (Pair, "low", "the model gives tuple, wanted logits"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_reason(tmp_path, model, split, message):
    with pytest.raises(ExportError, match=message):
        export(model(), tmp_path, split)
    assert list(tmp_path.iterdir()) == []


class One(Net):
    """Has a way of its own for a single sample."""

    def forward(self, x):
        h = self.middle(self.low(x))
        return self.last(h.reshape(1, -1) if len(x) == 1 else h.flatten(1))


def test_a_single_example_does_not_bake_in_its_size(tmp_path):
    model = One()
    program = torch.jit.load(export(model, tmp_path, inputs=torch.rand(1, 1, 8, 8)))
    assert largest_error(program, model, 9) < 1e-5


class Text(nn.Module):
    """Token ids and a mask; the output layer is tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.mix = nn.Linear(8, 8)
        self.last = nn.Linear(8, 20, bias=False)
        self.last.weight = self.embed.weight

    def forward(self, ids, mask):
        h = self.mix(self.embed(ids)).tanh() * mask[..., None]
        return self.last(h.sum(1) / mask.sum(1, keepdim=True))


def test_integer_inputs_a_second_input_and_tied_weights(tmp_path):
    model = Text()
    ids = torch.randint(20, (4, 6))
    mask = torch.ones(4, 6)
    mask[1, 4:] = 0
    path = export_program(model, (ids, mask), split="embed", path=tmp_path / "program.ts")
    program = torch.jit.load(path)
    other = torch.randint(20, (5, 6)), torch.ones(5, 6)
    logits = program.head(program.features(*other), other[1])
    assert torch.allclose(logits, model(*other), atol=1e-6)
    aliases = json.loads(program.attach_meta())["aliases"]
    assert aliases == [["model.embed.weight", "model.last.weight"]]


def test_a_compiled_model_is_exported_as_itself(tmp_path):
    model = Net()
    program = torch.jit.load(export(torch.compile(model), tmp_path))
    assert {n for n, _ in program.named_parameters()} == {"model." + n for n in model.state_dict()}


class Classifier(nn.Module):
    """Blocks of convolutions, with an addition around a part of the second."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.third = nn.Sequential(
            nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        )
        self.classify = nn.Linear(6, 5)

    def low(self, images):
        hidden = self.first(images)
        return self.third(hidden + self.second(hidden))

    def high(self, hidden):
        return self.classify(hidden.mean((2, 3)))

    def forward(self, images):
        return self.high(self.low(images))


def test_two_functions_are_a_split(tmp_path):
    model, images = Classifier(), torch.randn(4, 1, 16, 16)
    split = (lambda net, x: net.low(x), Classifier.high)
    path = export_program(model, images, split=split, path=tmp_path / "program.ts")
    program = torch.jit.load(path)
    hidden = program.features(images)
    assert torch.equal(hidden, model.eval().low(images))
    assert torch.allclose(program.head(hidden), model(images), atol=1e-6)
    assert json.loads(program.attach_meta())["split"] == "<lambda>, high"
    wrong = (lambda net, x: net.first(x), lambda net, hidden: net.high(net.third(hidden)))
    with pytest.raises(ExportError, match=r"`head\(features\(x\)\)` is not `model\(x\)`"):
        export_program(model, images, split=wrong, path=tmp_path / "other.ts")
    assert not (tmp_path / "other.ts").exists()


def test_the_split_of_a_network_of_images_is_where_features_are_done():
    # A quarter of 32 is 8; the addition leads around `second`.
    assert image_split(Classifier(), torch.randn(2, 1, 32, 32)) == "third"
    # Of 16 it is 4, too few for 8 patches a side; half of it is not.
    assert image_split(Classifier(), torch.randn(2, 1, 16, 16)) == "first"
    assert image_split(Classifier(), torch.randn(2, 1, 16, 16), side=4) == "third"
    with pytest.raises(ExportError, match="at least 30 × 30"):
        image_split(Classifier(), torch.randn(2, 1, 32, 32), side=30)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("resnet18", "maxpool"),
        ("alexnet", "features.2"),
        ("mobilenet_v2", "features.2"),
        ("squeezenet1_1", "features.2"),
        ("regnet_y_400mf", "trunk_output.block1"),
    ],
)
def test_networks_of_torchvision_are_exported_where_image_split_says(tmp_path, name, split):
    models = pytest.importorskip("torchvision.models")
    model, images = getattr(models, name)(num_classes=7), torch.randn(2, 3, 96, 96)
    assert image_split(model, images) == split
    path = export_program(model, images, split=split, path=tmp_path / "program.ts")
    program = torch.jit.load(path)
    wanted = model.eval()(images)
    found = program.head(program.features(images))
    assert torch.allclose(found, wanted, atol=1e-5 * max(1.0, wanted.abs().max().item()))


def test_examples_that_do_not_fit_are_told_and_arrays_are_taken(tmp_path):
    images = torch.randn(2, 1, 32, 32)
    for call in (
        lambda inputs: export_program(Classifier(), inputs, path=tmp_path / "program.ts"),
        lambda inputs: image_split(Classifier(), inputs),
    ):
        with pytest.raises(ExportError, match=r"does not run on `example_inputs` of shape \[2, 3,"):
            call(torch.randn(2, 3, 32, 32))
    with pytest.raises(ExportError, match="samples first"):
        export_program(Classifier(), torch.randn(1, 5, 16, 16), path=tmp_path / "program.ts")
    assert image_split(Classifier(), images.numpy()) == "third"
    assert export_program(Classifier(), images.numpy(), path=tmp_path / "program.ts").exists()


def graphs_of(path):
    """The graphs of all methods in a file."""
    program = torch.jit.load(path)
    for module in program.modules():
        for name in module._c._method_names():
            yield module._c._get_method(name).graph


def test_a_file_holds_neither_a_device_nor_the_flags_of_cudnn(tmp_path):
    """Or on a GPU new tensors would be on the CPU, and convolutions in TF32 whatever is asked."""
    image = export_program(Net(), torch.randn(4, 1, 8, 8), split="low", path=tmp_path / "image.ts")
    ids = torch.randint(1, 9, (3, 6))
    text = export_program(Positions(), ids, split="embed", path=tmp_path / "text.ts")
    kinds = []
    for graph in [*graphs_of(image), *graphs_of(text)]:
        nodes = graph.findAllNodes("prim::Constant")
        assert all(node.output().type().kind() != "DeviceObjType" for node in nodes), graph
        kinds += [node.kind() for node in graph.nodes()]
    assert "aten::_convolution" not in kinds
    assert {"aten::convolution", "aten::arange", "prim::device"} <= set(kinds)


class Positions(nn.Module):
    """A network of text that makes a tensor in its forward pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, 4)
        self.place = nn.Embedding(8, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, ids):
        places = self.place(torch.arange(ids.shape[1], device=ids.device))
        return self.out((self.embed(ids) + places).tanh().mean(1))


def test_the_default_device_does_not_matter(tmp_path):
    files = [tmp_path / "one.ts", tmp_path / "two.ts"]
    net, images = Net(), torch.randn(4, 1, 8, 8)
    export_program(net, images, split="low", path=files[0])
    with torch.device("meta"):
        export_program(net, images, split=image_split(net, images, side=4), path=files[1])
    one, two = (torch.jit.load(path) for path in files)
    assert torch.equal(one.head(one.features(images)), two.head(two.features(images)))


class Rare(nn.Module):
    """A branch on data that the examples never take."""

    def __init__(self):
        super().__init__()
        self.low = nn.Conv2d(3, 4, 3, padding=1)
        self.out = nn.Linear(4, 10)

    def forward(self, images):
        hidden = self.low(images).mean((2, 3))
        if images[0].abs().max() > 6:
            hidden = hidden * 3
        return self.out(hidden)


class Signed(Rare):
    """A branch on the sum of features, of which the bias makes the most."""

    def forward(self, images):
        hidden = self.low(images).mean((2, 3))
        return self.out(hidden * 2 if hidden.sum() > 0 else hidden)


@pytest.mark.parametrize("kind", [Rare, Signed])
def test_a_branch_on_data_is_found_and_told(tmp_path, kind):
    torch.manual_seed(0)
    with pytest.raises(ExportError, match=r"8 times as large.*branch on data.*test_program\.py:"):
        export_program(kind(), torch.randn(2, 3, 16, 16), split="low", path=tmp_path / "own.ts")
    with pytest.raises(ExportError) as told:
        export(Around(), tmp_path)
    assert "branch on data" not in str(told.value), "there is none"
    assert list(tmp_path.iterdir()) == []


class Bounded(Rare):
    """Takes no large values."""

    def forward(self, images):
        if torch.jit.is_tracing() or images.abs().max() < 8:
            return self.out(self.low(images).mean((2, 3)))
        raise RuntimeError("out of bounds")


class Steep(Rare):
    """Is infinite for large values."""

    def forward(self, images):
        return self.out(self.low(images).mean((2, 3))) + (30 * images[:, 0, 0, :1]).exp()


@pytest.mark.parametrize("model", [Bounded, Steep])
def test_a_model_that_takes_no_large_values_is_exported(tmp_path, model):
    torch.manual_seed(0)
    export_program(model(), torch.randn(2, 3, 16, 16) / 2, path=tmp_path / "program.ts")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_told_as_the_reason(tmp_path, kind):
    model, images = Net().to(kind), torch.rand(4, 1, 8, 8).to(kind)
    with pytest.raises(ExportError, match=r"is b?float16: .* export a float32 copy"):
        export(model, tmp_path, inputs=images)
